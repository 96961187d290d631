"""segbench train: networks into checkpoints."""

from __future__ import annotations

from pathlib import Path

import click

from segbench.cli.options import (
    DEFAULT_DATASET,
    SeedList,
    SpecText,
    at_least,
    data_options,
    device_option,
    workspace_option,
)
from segbench.store.workspace import Workspace

DEFAULT_MODELS = ("nlcen", "unet")


@click.command("train")
@click.argument("models", nargs=-1, type=SpecText("models"))
@click.option(
    "--suite", help="Also the networks of a suite: paper, ablation or today (suites.toml)."
)
@data_options
@click.option("--preset", default="quick", show_default=True, help="Recipe: quick or paper.")
@click.option("--epochs", type=at_least(1), help="Instead of the recipe's.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option(
    "--seeds", type=SeedList(), help="Several, one after another: 0,1,2. Replaces --seed."
)
@click.option(
    "--defence",
    default="",
    type=SpecText("defences"),
    help="How batches are learnt from: pgd-at:eps=4/255,steps=5, trades, gaussian:sigma=0.25 or "
    "another of segbench list defences.",
)
@click.option(
    "--start-from",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Checkpoint folder of the same network whose weights to begin with.",
)
@click.option(
    "--resume",
    is_flag=True,
    help="Continue an interrupted training, exactly; with --force one that it began.",
)
@click.option("--force", is_flag=True, help="Train anew, replacing an existing checkpoint.")
@device_option
@workspace_option
def command(
    models: tuple[str, ...],
    suite: str | None,
    dataset: str | None,
    data_root: Path | None,
    preset: str,
    epochs: int | None,
    seed: int,
    seeds: tuple[int, ...] | None,
    defence: str,
    start_from: Path | None,
    resume: bool,
    force: bool,
    device: str | None,
    workspace: Workspace,
) -> None:
    """Train MODELs (default: nlcen and unet) and store them with a card of their provenance.

    \b
    segbench train nlcen unet --dataset jsrt --data-root path/to/jsrt
    segbench train unet:width=16 --dataset folder --data-root my_images --epochs 50
    segbench train --suite paper --seeds 0,1,2
    segbench train unet --defence pgd-at:eps=4/255,steps=5
    """
    from segbench.cli.training import train_models
    from segbench.training.suites import load_suite

    if suite is not None:
        models = tuple(dict.fromkeys([*models, *load_suite(suite)]))
    try:
        train_models(
            models or DEFAULT_MODELS,
            dataset or DEFAULT_DATASET,
            data_root,
            preset=preset,
            epochs=epochs,
            seeds=seeds or (seed,),
            defence=defence,
            start_from=start_from,
            resume=resume,
            force=force,
            device=device,
            workspace=workspace,
        )
    except KeyboardInterrupt as end:
        end.args = (
            "every finished epoch is kept: the same command with --resume goes on from there",
        )
        raise
