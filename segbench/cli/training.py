"""Networks trained one after another with a progress bar: what train, run and demo share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

from segbench.cli.options import open_dataset


def train_models(
    models: Sequence[str],
    dataset: str,
    data_root: Path | None,
    *,
    preset: str = "quick",
    epochs: int | None = None,
    seeds: Sequence[int] = (0,),
    resume: bool = False,
    force: bool = False,
    device: str | None = None,
    workspace: Path,
) -> None:
    """Train every model spec with every seed on the ``train`` split into the workspace."""
    from segbench.architecture import resolve_architecture
    from segbench.cli.display import TrainingProgress, console, progress_bar
    from segbench.engine.precision import choose_device
    from segbench.executors.local import check_writable
    from segbench.recipes import load_recipe
    from segbench.spec import parse
    from segbench.train import train_model

    overrides = {} if epochs is None else {"epochs": epochs}
    recipe = load_recipe(preset, parse(dataset).name, overrides)
    data = open_dataset(dataset, data_root)
    check_writable(workspace)
    for model in models:
        resolve_architecture(model, data.spatial_dims)  # all of them, before hours of the first
    for model, seed in itertools.product(models, seeds):
        title = f"{model} #{seed}" if len(seeds) > 1 else model
        with progress_bar() as progress:
            folder = train_model(
                model,
                data,
                dataset,
                recipe=recipe,
                seed=seed,
                workspace=workspace,
                resume=resume,
                force=force,
                device=choose_device(device),
                listener=TrainingProgress(progress, title, recipe.epochs),
            )
        console.print(f"trained {folder}", highlight=False, soft_wrap=True)
