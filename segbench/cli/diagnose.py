"""segbench diagnose: is a network robust, or does it hide its gradient from the attack?"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import click

from segbench.cli.options import (
    SpecText,
    at_least,
    channels_option,
    data_options,
    device_option,
    workspace_option,
)
from segbench.errors import UserError

if TYPE_CHECKING:
    from segbench.channels import Channels
    from segbench.diagnosis.record import Diagnosis

_COLOURS = {"pass": "green", "suspicious": "yellow", "fail": "red"}


@click.command("diagnose")
@click.argument("model", type=SpecText("models"))
@click.option(
    "--weights",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Weights of your own network (.safetensors, .pt, .pth).",
)
@click.option("--normalize", default="", help="As of segbench attack.")
@channels_option
@click.option("--eps", default="4/255", show_default=True, help="Budget of the comparisons.")
@data_options
@click.option("--split", default="test", show_default=True)
@click.option("--limit", type=at_least(1), default=8, show_default=True, help="Cases at most.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32"]),
    default="auto",
    show_default=True,
    help="Of gradients only; every decision and score is fp32.",
)
@device_option
@workspace_option
def command(
    model: str,
    weights: Path | None,
    normalize: str,
    channels: Channels | None,
    eps: str,
    dataset: str | None,
    data_root: Path | None,
    split: str,
    limit: int,
    precision: str,
    device: str | None,
    workspace: Path,
) -> None:
    """Check whether MODEL's attacked scores can be believed: checks for gradient masking.

    MODEL is what attack -m takes. The findings are stored, and stand in every report beside the
    model's numbers; rows of a model that fails are marked gradient-masking.

    \b
    segbench diagnose unet
    segbench diagnose my_net.py:build --weights my_net.pt --dataset folder --data-root my_images
    """
    from segbench.cli.display import console, progress_bar, show
    from segbench.cli.evaluation import Request, resolve_request
    from segbench.diagnosis.record import write_diagnosis
    from segbench.diagnosis.run import diagnose_model
    from segbench.executors.local import Options
    from segbench.spec import parse_eps
    from segbench.store import Workspace

    budget = parse_eps(eps)
    if not 0 < budget <= 1:
        raise UserError(
            f"--eps {eps} is no budget to compare attacks at; expected one above 0 and up to 1, "
            "such as 4/255"
        )
    request = Request(
        models=(model,),
        weights=(weights,) if weights else (),
        normalize=normalize,
        channels=channels,
        dataset=dataset,
        data_root=data_root,
        split=split,
        limit=limit,
    )
    options = Options("fp32" if precision == "fp32" else "auto", device)
    store = Workspace(workspace)
    for reference, data in resolve_request(request, workspace):
        with progress_bar() as progress:
            told = partial(show, progress, progress.add_task(reference.name, total=None))
            diagnosis = diagnose_model(reference, data, budget, store, options, told)
        path = write_diagnosis(store, diagnosis)
        _show(diagnosis)
        console.print(f"wrote {path}", highlight=False, soft_wrap=True)


def _show(diagnosis: Diagnosis) -> None:
    """One line per check, then the verdict."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    from segbench.cli.display import console

    how = f"{diagnosis.cases} cases of {diagnosis.dataset} {diagnosis.split}, eps {diagnosis.eps}"
    table = Table(title=f"{diagnosis.model} on {how}", title_justify="left", box=SIMPLE_HEAD)
    for name in ("check", "verdict", "number", "from", "what it means"):
        table.add_column(name, justify="right" if name in ("number", "from") else "left")
    for check in diagnosis.checks:
        verdict = f"[{_COLOURS[check.verdict]}]{check.verdict}[/]"
        numbers = f"{check.number:.3f}", f"{check.threshold:g}"
        table.add_row(check.name, verdict, *numbers, check.meaning)
    console.print(table)
    console.print(f"verdict: [{_COLOURS[diagnosis.verdict]}]{diagnosis.verdict}[/]")
