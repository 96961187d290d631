"""segbench run: train, attack and report as declared in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segbench.cli.options import (
    device_option,
    executor_options,
    plan_option,
    said,
    workspace_option,
)
from segbench.store.garbage import importing
from segbench.store.workspace import Workspace

if TYPE_CHECKING:
    from segbench.evaluation.grid_file import GridFile, TrainConfig


@click.command("run")
@click.argument("grid", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option(
    "--part",
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Only the cases that this file names, which segbench submit has planned; no reports.",
)
@executor_options
@plan_option
@device_option
@workspace_option
def command(grid: Path, workspace: Workspace, plan: bool, **overriding: Any) -> None:
    """Do what GRID (a TOML file) declares: training, attacks, reports; finished work is kept.

    \b
    segbench run grid.toml

    \b
    dataset = "jsrt"
    data_root = "data/jsrt"
    attacks = ["ifgsm", "pgd:restarts=5"]
    eps = ["1/255", "4/255"]
    [train]
    models = ["nlcen", "unet"]
    seeds = [0, 1, 2]
    """
    with importing():
        from segbench.cli.evaluation import evaluate, show_plan, with_trained
        from segbench.cli.reporting import write_reports
        from segbench.data import open_dataset
        from segbench.evaluation.grid_file import load_grid_file, override
        from segbench.evaluation.plan import check_goals, plan_grid
        from segbench.evaluation.taken import take_asked

    asked = with_trained(override(load_grid_file(grid), said(overriding)))
    if plan:
        show_plan(asked, workspace)
        return
    if asked.part:
        evaluate(asked, workspace)
        return
    if (train := asked.train) and (dataset := asked.dataset):
        opened = open_dataset(dataset, asked.data_root)
        check_goals(plan_grid(asked), take_asked(dataset, opened, asked, trained=True))
        _train(train, asked, dataset, workspace)
    try:
        evaluate(asked, workspace)
        write_reports(asked.reports, workspace, workspace.reports)
    except KeyboardInterrupt as end:
        if train and train.force:
            end.args = (
                "everything finished is kept: without force in [train] the same command goes on "
                "from there, with it the networks are trained anew",
            )
        raise


def _train(train: TrainConfig, asked: GridFile, dataset: str, workspace: Workspace) -> None:
    from segbench.cli.training import train_models

    train_models(
        train.networks,
        dataset,
        asked.data_root,
        preset=train.preset,
        epochs=train.epochs,
        seeds=train.training_seeds,
        defence=train.defence,
        start_from=train.start_from,
        resume=True,
        force=train.force,
        device=asked.device,
        workspace=workspace,
    )
