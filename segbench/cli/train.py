"""segbench train: networks into checkpoints."""

from __future__ import annotations

from pathlib import Path

import click

from segbench.cli.options import (
    DEFAULT_DATASET,
    SpecText,
    at_least,
    data_options,
    device_option,
    workspace_option,
)

DEFAULT_MODELS = ("nlcen", "unet")


@click.command("train")
@click.argument("models", nargs=-1, type=SpecText("models"))
@data_options
@click.option("--preset", default="quick", show_default=True, help="Recipe: quick or paper.")
@click.option("--epochs", type=at_least(1), help="Instead of the recipe's.")
@click.option("--seed", type=int, default=0, show_default=True)
@click.option("--resume", is_flag=True, help="Continue an interrupted training, exactly.")
@click.option("--force", is_flag=True, help="Train anew, replacing an existing checkpoint.")
@device_option
@workspace_option
def command(
    models: tuple[str, ...],
    dataset: str | None,
    data_root: Path | None,
    preset: str,
    epochs: int | None,
    seed: int,
    resume: bool,
    force: bool,
    device: str | None,
    workspace: Path,
) -> None:
    """Train MODELs (default: nlcen and unet) and store them with a card of their provenance.

    \b
    segbench train nlcen unet --dataset jsrt --data-root path/to/jsrt
    segbench train unet:width=16 --dataset folder --data-root my_images --epochs 50
    """
    from segbench.cli.training import train_models

    train_models(
        models or DEFAULT_MODELS,
        dataset or DEFAULT_DATASET,
        data_root,
        preset=preset,
        epochs=epochs,
        seed=seed,
        resume=resume,
        force=force,
        device=device,
        workspace=workspace,
    )
