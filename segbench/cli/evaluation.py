"""From a request in the user's words to a finished run: what attack, run and demo share."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from segbench.cli.options import open_dataset, refuse_split
from segbench.errors import UserError

if TYPE_CHECKING:
    from fractions import Fraction

    from segbench.evaluation.request import DataSource
    from segbench.networks import ModelReference
    from segbench.networks.channels import Channels
    from segbench.plugins.attack import NamedAttack


@dataclass(frozen=True)
class Request:
    """A grid as the user writes it; spec and eps texts are still text."""

    models: tuple[str, ...] = ()
    weights: tuple[Path, ...] = ()
    normalize: str = ""
    channels: Channels | None = None
    attacks: tuple[str, ...] = ("pgd",)
    eps: tuple[str, ...] = ()
    dataset: str | None = None
    data_root: Path | None = None
    split: str = "test"
    limit: int | None = None
    seeds: tuple[int, ...] = (0,)
    precision: Literal["auto", "fp32"] = "auto"
    batch_size: int | None = None
    boundary: bool = False
    quantize: bool = False
    save_adversarial: bool = False
    device: str | None = None


def evaluate(request: Request, workspace: Path) -> None:
    """Run the grid with a progress bar, then show the tables of its networks."""
    attacks, eps = _load_attacks(request, workspace)
    pairs = resolve_request(request, workspace)

    from segbench.cli.display import AttackProgress, console, progress_bar, show_summary
    from segbench.evaluation.grid import Grid
    from segbench.evaluation.request import Options
    from segbench.evaluation.run import refuse_failures, run_grid
    from segbench.store.workspace import Workspace
    from segbench.tables.load import load_tables

    options = Options(
        request.precision,
        request.device,
        request.batch_size,
        request.boundary,
        request.quantize,
        request.save_adversarial,
    )
    grid, store = Grid(attacks, eps, request.seeds), Workspace(workspace)
    with progress_bar() as progress:
        listener = AttackProgress(progress)
        record = run_grid(pairs, grid, store, options, listener, {})
    show_summary(load_tables(store, run=record))
    console.print(
        f"{record.run_id}: {listener.computed} scores computed, {listener.found} found in "
        f"{workspace / 'results'}",
        highlight=False,
        soft_wrap=True,
    )
    refuse_failures(record)


def _load_attacks(request: Request, workspace: Path) -> tuple[list[NamedAttack], list[Fraction]]:
    """The attacks and eps values that are asked for, refused where they cannot go together."""
    from segbench.api import BringsBudgets, TransferAttack
    from segbench.evaluation.transfer_source import find_source
    from segbench.plugins.attack import attack_budgets, load_attack
    from segbench.plugins.spec import parse_eps_list

    eps = parse_eps_list(request.eps) if request.eps else []
    attacks = [load_attack(text) for text in request.attacks]
    for attack in attacks:
        attack_budgets(attack, eps)
        if isinstance(attack.attack, TransferAttack):
            find_source(attack.attack.source, workspace)
    if any(eps) and all(isinstance(attack.attack, BringsBudgets) for attack in attacks):
        names = ", ".join(attack.label for attack in attacks)
        raise UserError(
            f"--eps means nothing to budgets other than a norm's ({names}); leave it out"
        )
    return attacks, eps


def refuse_goals(request: Request, dataset: str) -> None:
    """Targets that the data set does not have, before hours of training the networks to attack."""
    from segbench.evaluation.goals import check_goal
    from segbench.plugins.attack import load_attack

    data = _select(dataset, request)
    for text in request.attacks:
        check_goal(data, load_attack(text))


def resolve_request(request: Request, workspace: Path) -> list[tuple[ModelReference, DataSource]]:
    """Each network that is asked for with its data; says where code of the user's runs."""
    from segbench.cli.display import messages
    from segbench.networks import ArchiveReference, ForeignReference, resolve_models

    references = resolve_models(
        request.models, workspace, request.weights, request.normalize, request.channels
    )
    for reference in references:
        if isinstance(reference, (ForeignReference, ArchiveReference)):
            messages.print(f"{reference.module} is code of yours and runs here", highlight=False)
    return _with_data(references, request)


def _with_data(
    references: list[ModelReference], request: Request
) -> list[tuple[ModelReference, DataSource]]:
    """Each network with the data it is attacked on: the named set, or the one its card names."""
    from segbench.networks import CheckpointReference

    opened: dict[str, DataSource] = {}
    pairs = []
    for reference in references:
        if request.dataset is not None:
            text = request.dataset
        elif isinstance(reference, CheckpointReference):
            text = reference.card.dataset_spec
        else:
            raise UserError(f"model {reference.name} has no card; name its data with --dataset")
        if text not in opened:
            opened[text] = _select(text, request)
        pairs.append((reference, opened[text]))
    return pairs


def _select(spec: str, request: Request) -> DataSource:
    """The cases that are asked for of a data set."""
    from segbench.evaluation.request import select_data

    dataset = open_dataset(spec, request.data_root)
    refuse_split(dataset, request.split)
    return select_data(spec, dataset, request.split, request.limit)
