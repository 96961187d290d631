"""segbench diagnose: is a network robust, or does it hide its gradient from the attack?"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any

import click

from segbench.cli.options import (
    SpecText,
    case_options,
    data_options,
    device_option,
    own_network_options,
    precision_option,
    tile_options,
    workspace_option,
)
from segbench.errors import UserError
from segbench.store.workspace import Workspace, check_writable

if TYPE_CHECKING:
    from fractions import Fraction

    from segbench.store.diagnoses import Diagnosis

_COLOURS = {"pass": "green", "weak loss": "cyan", "suspicious": "yellow", "fail": "red"}


@click.command("diagnose")
@click.argument("model", type=SpecText("models"))
@own_network_options
@tile_options
@click.option("--eps", default="4/255", show_default=True, help="Budget of the comparisons.")
@data_options
@case_options(limit=8)
@precision_option
@device_option
@workspace_option
def command(model: str, eps: str, workspace: Workspace, **asked: Any) -> None:
    """Check whether MODEL's attacked scores can be believed: checks for gradient masking.

    MODEL is what attack -m takes. The findings are stored, and stand in every report beside the
    model's numbers; rows of a model that fails are marked gradient-masking. A "weak loss" says that
    cross-entropy attacks this model badly, and hides nothing: attack with -a standard.

    \b
    segbench diagnose unet
    segbench diagnose my_net.py:build --weights my_net.pt --dataset folder --data-root my_images
    """
    from segbench.cli.consoles import console
    from segbench.cli.display import progress_bar, show
    from segbench.cli.evaluation import resolve_request
    from segbench.diagnosis.run import diagnose_model
    from segbench.evaluation.records import validated
    from segbench.evaluation.request import Request
    from segbench.store.diagnoses import read_diagnoses, write_diagnosis

    budget = _budget(eps)
    request = validated(Request, {"models": (model,), **asked})
    check_writable(workspace.diagnoses)
    for reference, data in resolve_request(request, workspace):
        with progress_bar() as progress:
            told = partial(show, progress, progress.add_task(reference.name, total=None))
            diagnosis = diagnose_model(reference, data, budget, workspace, request, told)
        path = write_diagnosis(workspace, diagnosis)
        _show(diagnosis)
        for other in read_diagnoses(workspace, damaged=[]):
            if other.subject == diagnosis.subject and _graver(other, diagnosis):
                console.print(f"Note: {_remaining(other)}")
        console.print(f"wrote {path}", soft_wrap=True)


def _budget(eps: str) -> Fraction:
    """The one budget of the comparisons, above 0 and up to 1."""
    from segbench.plugins.spec import parse_eps

    budget = parse_eps(eps)
    if not 0 < budget <= 1:
        raise UserError(
            f"--eps {eps} is no budget to compare attacks at; expected one above 0 and up to 1, "
            "such as 4/255"
        )
    return budget


def _graver(one: Diagnosis, than: Diagnosis) -> bool:
    from segbench.store.diagnoses import VERDICTS

    return VERDICTS.index(one.verdict) > VERDICTS.index(than.verdict)


def _remaining(other: Diagnosis) -> str:
    """An examination that this one does not undo."""
    checks = ", ".join(check.name for check in other.checks if check.verdict == other.verdict)
    cases = "1 case" if other.cases == 1 else f"{other.cases} cases"
    found = {"fail": "failed", "suspicious": "was suspicious in"}.get(
        other.verdict, "showed a weak loss in"
    )
    marked = ", so that its rows stay marked" if other.verdict == "fail" else ""
    return (
        f"on {cases} at eps {other.eps} {other.model} {found} {checks}{marked}; only the same "
        "examination again undoes that"
    )


def _show(diagnosis: Diagnosis) -> None:
    """One line per check, then the verdict."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    from segbench.cli.consoles import console

    how = f"{diagnosis.cases} cases of {diagnosis.dataset} {diagnosis.split}, eps {diagnosis.eps}"
    table = Table(title=f"{diagnosis.model} on {how}", title_justify="left", box=SIMPLE_HEAD)
    for name in ("check", "verdict", "number", "from", "what it means"):
        table.add_column(name, justify="right" if name in ("number", "from") else "left")
    for check in diagnosis.checks:
        verdict = Text(check.verdict, style=_COLOURS[check.verdict])
        numbers = f"{check.number:.3f}", f"{check.threshold:g}"
        table.add_row(check.name, verdict, *numbers, check.meaning)
    console.print(table)
    console.print("verdict:", Text(diagnosis.verdict, style=_COLOURS[diagnosis.verdict]))
