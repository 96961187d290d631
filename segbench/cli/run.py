"""segbench run: train, attack and report as declared in a file."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from segbench.cli.options import DEFAULT_DATASET, device_option, workspace_option

if TYPE_CHECKING:
    from segbench.evaluation.grid_file import TrainConfig


@click.command("run")
@click.argument("grid", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@device_option
@workspace_option
def command(grid: Path, device: str | None, workspace: Path) -> None:
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
    from segbench.cli.evaluation import Request, evaluate, refuse_goals
    from segbench.cli.reporting import write_reports
    from segbench.evaluation.grid_file import load_grid_config

    config = load_grid_config(grid)
    dataset = config.dataset
    if config.train:
        dataset = dataset or DEFAULT_DATASET
    asked = config.model_dump(exclude={"models", "eps", "dataset", "reports", "train"})
    request = Request(
        models=config.models or (config.train.networks if config.train else ()),
        eps=tuple(map(str, config.eps)),
        dataset=dataset,
        device=device,
        **asked,
    )
    if config.train and dataset:
        refuse_goals(request, dataset)
        _train(config.train, dataset, config.data_root, device, workspace)
    evaluate(request, workspace)
    write_reports(config.reports, workspace, workspace / "reports")


def _train(
    train: TrainConfig, dataset: str, data_root: Path | None, device: str | None, workspace: Path
) -> None:
    from segbench.cli.training import train_models

    train_models(
        train.networks,
        dataset,
        data_root,
        preset=train.preset,
        epochs=train.epochs,
        seeds=train.training_seeds,
        resume=True,
        device=device,
        workspace=workspace,
    )
