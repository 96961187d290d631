"""segbench demo: everything, small, on generated data, offline, in minutes."""

from __future__ import annotations

import click

from segbench.cli.options import device_option, workspace_option
from segbench.store.workspace import Workspace

DATASET = "phantom-cxr"
MODELS = ("nlcen:encoder=resnet18,width=32", "unet:width=8")
# Thirty gradients a case, whatever they leave: the page says where that was too few.
ATTACKS = ("ifgsm", "standard@4:cost=quick")
EPS = "1/255,2/255,4/255,8/255"


@click.command("demo")
@click.option("--tiny", is_flag=True, help="Seconds instead of minutes; for testing segbench.")
@device_option
@workspace_option
def command(tiny: bool, device: str | None, workspace: Workspace) -> None:
    """Train NLCEN and a U-Net on generated radiographs, attack both, report.

    Offline, nothing to download, under three minutes on two cores.

    \b
    segbench demo
    """
    from segbench.cli.evaluation import evaluate
    from segbench.cli.reporting import write_reports
    from segbench.cli.training import train_models
    from segbench.evaluation.records import validated
    from segbench.evaluation.request import Request

    models = MODELS[1:] if tiny else MODELS
    train_models(
        models, DATASET, None, epochs=2 if tiny else None, resume=True, device=device,
        workspace=workspace,
    )  # fmt: skip
    asked = {
        "models": models,
        "attacks": ATTACKS[:1] if tiny else ATTACKS,
        "eps": (EPS,),
        "dataset": DATASET,
        "limit": 4 if tiny else None,
        "device": device,
    }
    evaluate(validated(Request, asked), workspace)
    write_reports(("html", "markdown", "csv"), workspace, workspace.reports)
