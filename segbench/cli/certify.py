"""segbench certify: what provably withstands every change within an L2 radius, by smoothing."""

from __future__ import annotations

from typing import Any

import click

from segbench.cli.options import (
    SpecText,
    case_options,
    data_options,
    device_option,
    executor_options,
    own_network_options,
    plan_option,
    tile_options,
    workspace_option,
)
from segbench.store.workspace import Workspace

_SMOOTHING = ("sigma", "tau", "n", "n0", "alpha", "correction", "hierarchy")


@click.command("certify")
@click.argument("model", nargs=-1, type=SpecText("models"))
@own_network_options
@tile_options
@click.option(
    "--sigma",
    multiple=True,
    default=("0.25",),
    show_default=True,
    help="Standard deviation of the noise in shares of the pixel range, or several: 0.25,0.5.",
)
@click.option(
    "--n", type=int, default=100, show_default=True, help="Draws that test what is certified."
)
@click.option(
    "--n0", type=int, default=10, show_default=True, help="Further draws that choose what to test."
)
@click.option(
    "--alpha",
    type=float,
    default=0.001,
    show_default=True,
    help="Chance, at most, that any pixel of a case is certified wrongly.",
)
@click.option(
    "--tau",
    multiple=True,
    default=("0.75",),
    show_default=True,
    help="Probability, above 0.5 and below 1, that a pixel's class must be shown to exceed, or "
    "several; the radius is sigma times its normal quantile.",
)
@click.option(
    "--correction",
    type=click.Choice(["holm", "bonferroni"]),
    default="holm",
    show_default=True,
    help="For the number of pixels.",
)
@click.option(
    "--hierarchy",
    default="",
    metavar="NAME={...}",
    help="Coarser classes, certified where the finer cannot be: 'lungs={1,2}; any={1,2,3}'.",
)
@data_options
@case_options()
@click.option("--seed", type=int, default=0, show_default=True, help="Of the draws.")
@click.option("--fresh", is_flag=True, help="Draw and test anew, whatever is stored.")
@executor_options
@plan_option
@device_option
@workspace_option
def command(
    model: tuple[str, ...], seed: int, workspace: Workspace, plan: bool, **asked: Any
) -> None:
    """Certify MODEL by randomised smoothing: what no change within an L2 radius can undo.

    MODEL is what attack -m takes; several, or none for every checkpoint of the workspace. What is
    certified is the smoothed network, which answers what the network answers most often under
    noise, and abstains where that is not sure. A certified score is a lower bound. Only forward
    passes are needed; draws are kept, and an interrupted certificate goes on with the next.

    \b
    segbench certify unet
    segbench certify unet --sigma 0.25,0.5 --tau 0.75,0.9 --n 200
    segbench certify unet --hierarchy "lungs={1,2}"
    """
    from segbench.cli.evaluation import evaluate, show_plan
    from segbench.evaluation.records import validated
    from segbench.evaluation.request import Request

    certify = {name: asked.pop(name) for name in _SMOOTHING}
    asked |= {"models": model, "attacks": (), "seeds": (seed,), "certify": certify}
    request = validated(Request, asked)
    if plan:
        show_plan(request, workspace)
        return
    evaluate(request, workspace)
