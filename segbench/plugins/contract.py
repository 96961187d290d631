"""What a plug-in must be, checked when it is loaded: its kind, its members, their legal values.

What its methods return is checked where they are called: an attack's in ``engine/returned.py``, a
data set's and a report's by :func:`check_case` and :func:`check_files`.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Literal, get_args

from segbench.api import BringsBudgets, Budget, BudgetKind, Case, Dataset, NamesLibraries, Targeted
from segbench.errors import ContractError, UserError
from segbench.plugins import spec
from segbench.plugins.naming import CLEAN
from segbench.plugins.where import require_no_where

Kind = Literal["models", "attacks", "datasets", "reports", "defences"]
KINDS: tuple[Kind, ...] = ("models", "attacks", "datasets", "reports", "defences")
NORMS = ("linf", "l2", "l1")

_NEEDS = ("gradients", "scores", "labels")
_BUDGETS = tuple(kind for kind in get_args(BudgetKind) if kind not in ("certified", "none"))
_FORMS = {
    "step": ("plan", "init", "loss", "step"),
    "whole": ("run",),
    "warp": ("warp",),
    "fitted": ("schedule", "start", "apply", "loss", "learn"),
    "transfer": ("source", "attack"),
}
_SIZES = ("in_channels", "num_classes", "spatial_dims")


def check_name(kind: Kind, name: str) -> None:
    """Refuse a name that nobody could ask for.

    Raises:
        ContractError: a spec cannot hold it, or the core has taken it.
    """
    if not spec.is_name(name):
        raise ContractError("no spec can hold its name; expected one such as my-net2")
    if kind == "attacks" and name == CLEAN:
        raise ContractError("its name stands for images that nothing attacked")


def check_factory(kind: Kind, factory: Any) -> None:
    """Refuse an object that cannot be a plug-in of its kind.

    Raises:
        ContractError: it names the member and what was expected.
    """
    if kind == "attacks":
        _check_attack_class(factory)
    elif kind == "defences":
        _check_record(factory)
        if not callable(getattr(factory, "losses", None)):
            raise ContractError("losses is missing; see segbench.api.Defence")
    elif not callable(factory):
        raise ContractError(f"it is a {type(factory).__name__}; expected a function or a class")
    elif kind == "models":
        _check_call(factory, **dict.fromkeys(_SIZES))
    elif kind == "reports":
        _check_call(factory, "tables", "directory")
    try:
        found = spec.parameters(factory)
        for parameter in found.values():
            spec.describe(parameter.annotation)
    except (NameError, TypeError, AttributeError, ValueError) as error:
        raise ContractError(
            f"its parameters' types cannot be read ({type(error).__name__}: {error})"
        ) from error
    if kind == "attacks":
        require_no_where(found)


def _check_record(factory: Any) -> None:
    frozen = getattr(getattr(factory, "__dataclass_params__", None), "frozen", False)
    if not (isinstance(factory, type) and is_dataclass(factory) and frozen):
        raise ContractError(
            "it is not a frozen dataclass, whose fields are the parameters to record"
        )


def _check_attack_class(factory: Any) -> None:
    _check_record(factory)
    named = {*dir(factory), *factory.__dataclass_fields__}
    if not any(named.issuperset(members) for members in _FORMS.values()):
        form, members = max(_FORMS.items(), key=lambda form: len(named.intersection(form[1])))
        lacking = [member for member in members if member not in named]
        raise ContractError(
            f"{_listed(lacking)} {'is' if len(lacking) == 1 else 'are'} missing; expected of a "
            f"{form} attack: {', '.join(members)} (see segbench.api)"
        )
    for name, legal in (("needs", _NEEDS), ("budget_kind", _BUDGETS)):
        if name not in named:
            raise ContractError(f"{name} is missing; expected one of {', '.join(legal)}")
        value = getattr(factory, name, None)
        if isinstance(value, str):  # else it is a property, see check_attack
            _check_choice(name, value, legal)


def check_attack(attack: Any) -> None:
    """Refuse an attack whose properties have values that mean nothing to the engine.

    Raises:
        ContractError: it names the member and what was expected.
    """
    kind = attack.budget_kind
    _check_choice("needs", attack.needs, _NEEDS)
    _check_choice("budget_kind", kind, _BUDGETS)
    if isinstance(attack, BringsBudgets):
        _check_budgets(kind, attack.budgets)
    elif kind not in NORMS:
        raise ContractError(
            f"budgets is missing; its budget_kind is {kind!r}, which no --eps sets "
            "(see segbench.api.BringsBudgets)"
        )
    for f in fields(attack):
        if f.init and not _is_plain(value := getattr(attack, f.name)):
            raise ContractError(
                f"{f.name} is {value!r}; expected of a parameter text, a number, true, false, none "
                "or a tuple of them, which a row can record"
            )
    if kind == "min-norm":
        _check_choice("norm", getattr(attack, "norm", None), ("linf", "l2"))
    if isinstance(attack, Targeted) and not isinstance(attack.target, str | None):
        raise ContractError(f"target is {attack.target!r}; expected text or None")
    for library in attack.libraries if isinstance(attack, NamesLibraries) else ():
        try:
            version(library)
        except PackageNotFoundError:
            raise ContractError(f"libraries names {library!r}, which is not installed") from None


def check_dataset(dataset: Any) -> None:
    """Refuse a data set with a member missing, or of another type than is expected.

    Raises:
        ContractError: it names the member and what was expected.
    """
    for name in ("class_names", "in_channels", "spatial_dims", "resize_rule", "splits"):
        if not hasattr(dataset, name):
            raise ContractError(f"{name} is missing (see segbench.api.Dataset)")
    for name in ("entries", "load", "fingerprint"):
        if not callable(getattr(dataset, name, None)):
            raise ContractError(f"{name} is missing; expected a method (see segbench.api.Dataset)")
    if not _are_names(dataset.class_names) or len(dataset.class_names) < 2:
        raise ContractError(
            f"class_names is {dataset.class_names!r}; expected two names or more, background first"
        )
    if not isinstance(dataset.in_channels, int) or dataset.in_channels < 1:
        raise ContractError(f"in_channels is {dataset.in_channels!r}; expected 1 or more")
    if dataset.spatial_dims not in (2, 3):
        raise ContractError(f"spatial_dims is {dataset.spatial_dims!r}; expected 2 or 3")
    if not isinstance(dataset.resize_rule, str):
        raise ContractError(f"resize_rule is {dataset.resize_rule!r}; expected one sentence")
    if not _are_names(dataset.splits) or not {"train", "test"} <= set(dataset.splits):
        raise ContractError(f"splits is {dataset.splits!r}; expected train and test among them")


def check_case(case: Case, dataset: Dataset) -> Case:
    """The case, if its arrays are what the contract and its data set say.

    Raises:
        ContractError: it names the case, the member and what was expected.
        UserError: every pixel is ignored, so that there is nothing to score.
    """
    image, labels, ignored = case.image, case.labels, case.ignore_index
    shape = (dataset.in_channels, *labels.shape)
    fits = image.shape == shape and labels.ndim == dataset.spatial_dims
    if image.dtype != "float32" or not fits:
        axes = "H, W" if dataset.spatial_dims == 2 else "H, W, D"
        raise ContractError(
            f"the image of case {case.case_id} is {image.dtype} {image.shape} and its labels are "
            f"{labels.shape}; expected float32 ({dataset.in_channels}, {axes}) and ({axes})"
        )
    if not (image.min() >= 0 and image.max() <= 1):  # so written, NaN is refused
        raise ContractError(
            f"the image of case {case.case_id} has values from {image.min():g} to "
            f"{image.max():g}; expected [0, 1]"
        )
    known = labels if ignored is None else labels[labels != ignored]
    if not known.size:
        raise UserError(
            f"{case.source or f'case {case.case_id}'}: every pixel of its mask is ignored, so that "
            "nothing can be scored; leave it out"
        )
    last = len(dataset.class_names) - 1
    if case.regions is not None:
        _check_regions(case, last)
        last = max(label for of in case.regions for label in of)
    if case.valid is not None and (case.valid.shape != labels.shape or case.valid.dtype != bool):
        raise ContractError(
            f"valid of case {case.case_id} is {case.valid.dtype} {case.valid.shape}; expected bool "
            f"{labels.shape}"
        )
    if labels.dtype != "int64" or known.min() < 0 or known.max() > last:
        raise ContractError(
            f"the labels of case {case.case_id} are {labels.dtype}, {known.min()} to "
            f"{known.max()}; expected int64, 0 to {last} or the ignore_index ({ignored})"
        )
    return case


def _check_regions(case: Case, structures: int) -> None:
    assert case.regions is not None
    if len(case.regions) != structures or not all(case.regions):
        raise ContractError(
            f"regions of case {case.case_id} is {case.regions!r}; expected the labels of each of "
            f"{structures} structures"
        )


def check_files(files: Any) -> Sequence[Path]:
    """What a report says it has written, if it has.

    Raises:
        ContractError: it is no sequence of paths, or there is no such file.
    """
    if not isinstance(files, Sequence) or not all(isinstance(file, Path) for file in files):
        raise ContractError(f"it returned {files!r}; expected the paths of what it wrote")
    for file in files:
        if not file.exists():
            raise ContractError(f"it returned {file}, which it has not written")
    return files


def _check_call(factory: Any, *positional: str, **keywords: None) -> None:
    """Refuse what cannot be called with arguments of these names."""
    try:
        signature = inspect.signature(factory)
    except (TypeError, ValueError):
        return  # written in C, it does not say
    try:
        signature.bind_partial(*positional, **keywords)
    except TypeError as error:
        names = ", ".join([*positional, *(f"{name}=" for name in keywords)])
        raise ContractError(f"it cannot be called with ({names}): {error}") from None


def _check_choice(name: str, value: Any, legal: Sequence[str]) -> None:
    if value not in legal:
        raise ContractError(f"{name} is {value!r}; expected one of {', '.join(legal)}")


def _check_budgets(kind: str, budgets: Any) -> None:
    if not isinstance(budgets, Sequence) or not budgets:
        raise ContractError(f"budgets is {budgets!r}; expected one segbench.api.Budget or more")
    for budget in budgets:
        if not isinstance(budget, Budget) or budget.kind != kind:
            raise ContractError(f"budgets holds {budget!r}; expected a Budget of kind {kind}")
    if kind == "min-norm" and len(budgets) > 1:
        raise ContractError(
            f"budgets holds {len(budgets)}; expected one, the Jaccard to fall below"
        )


def _is_plain(value: Any) -> bool:
    if isinstance(value, tuple):
        return all(map(_is_plain, value))
    return value is None or isinstance(value, (str, int, float))


def _are_names(value: Any) -> bool:
    return isinstance(value, tuple) and all(isinstance(name, str) for name in value)


def _listed(names: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(names[:-1]), names[-1]]))
