"""segbench run: train, attack and report as declared in a file."""

from __future__ import annotations

from pathlib import Path

import click

from segbench.cli.options import DEFAULT_DATASET, device_option, workspace_option


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
    from segbench.cli.evaluation import Request, evaluate
    from segbench.cli.reporting import write_reports
    from segbench.cli.training import train_models
    from segbench.config import load_grid_config

    config = load_grid_config(grid)
    dataset = config.dataset
    if config.train:
        dataset = dataset or DEFAULT_DATASET
        train_models(
            config.train.networks,
            dataset,
            config.data_root,
            preset=config.train.preset,
            epochs=config.train.epochs,
            seeds=config.train.training_seeds,
            resume=True,
            device=device,
            workspace=workspace,
        )
    request = Request(
        models=config.models or (config.train.networks if config.train else ()),
        weights=config.weights,
        attacks=config.attacks,
        eps=tuple(map(str, config.eps)),
        dataset=dataset,
        data_root=config.data_root,
        split=config.split,
        limit=config.limit,
        seeds=config.seeds,
        precision=config.precision,
        batch_size=config.batch_size,
        boundary=config.boundary,
        quantize=config.quantize,
        save_adversarial=config.save_adversarial,
        device=device,
    )
    evaluate(request, workspace)
    write_reports(config.reports, workspace, workspace / "reports")
