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
    open_dataset,
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
    from segbench.cli.display import TrainingProgress, console, progress_bar
    from segbench.engine.precision import choose_device
    from segbench.recipes import load_recipe
    from segbench.spec import parse
    from segbench.train import train_model

    text = dataset or DEFAULT_DATASET
    recipe = load_recipe(preset, parse(text).name, {} if epochs is None else {"epochs": epochs})
    data = open_dataset(text, data_root)
    for model in models or DEFAULT_MODELS:
        with progress_bar() as progress:
            folder = train_model(
                model,
                data,
                text,
                recipe=recipe,
                seed=seed,
                workspace=workspace,
                resume=resume,
                force=force,
                device=choose_device(device),
                listener=TrainingProgress(progress, model, recipe.epochs),
            )
        console.print(f"trained {folder}", highlight=False, soft_wrap=True)
