"""Networks trained one after another with a progress bar: what train, run and demo share."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from segbench.cli.evaluation import say_notes
from segbench.data import open_dataset

if TYPE_CHECKING:
    from segbench.api import Dataset
    from segbench.store.workspace import Workspace
    from segbench.training.recipes import Recipe


def train_models(
    models: Sequence[str],
    dataset: str,
    data_root: Path | None,
    *,
    preset: str = "quick",
    epochs: int | None = None,
    seeds: Sequence[int] = (0,),
    defence: str = "",
    start_from: Path | None = None,
    resume: bool = False,
    force: bool = False,
    device: str | None = None,
    workspace: Workspace,
) -> None:
    """Train every model spec with every seed on the ``train`` split into the workspace.

    All that ``force`` replaces is marked before the first is trained. With ``resume`` too it goes
    on with what the same call has marked and not finished.
    """
    from segbench.atomic import shown
    from segbench.cli.consoles import console
    from segbench.cli.display import TrainingProgress, progress_bar
    from segbench.engine.precision import choose_device
    from segbench.training.plan import Training, plan_training
    from segbench.training.train import carry_out

    recipe = _recipe(preset, dataset, epochs)
    data = open_dataset(dataset, data_root)
    say_notes([data])
    _refuse_early(models, data, recipe.epochs, workspace, defence, start_from)

    def plan(model: str, seed: int) -> Training:
        return plan_training(
            model,
            data,
            dataset,
            recipe=recipe,
            seed=seed,
            workspace=workspace,
            defence=defence,
            start_from=start_from,
        )

    asked = list(itertools.product(models, seeds))
    if force and not (resume and plan(*asked[-1]).is_replacing()):
        for one in asked:
            plan(*one).begin_anew()
    for model, seed in asked:
        title = f"{model} #{seed}" if len(seeds) > 1 else model
        with progress_bar() as progress:
            folder = carry_out(
                plan(model, seed),
                resume=resume or force,
                force=False,
                device=choose_device(device),
                listener=TrainingProgress(progress, title, recipe.epochs),
            )
        console.print(f"trained {shown(folder)}", soft_wrap=True)


def _refuse_early(
    models: Sequence[str],
    data: Dataset,
    epochs: int,
    workspace: Workspace,
    defence: str,
    start_from: Path | None,
) -> None:
    """What cannot end well, before hours of the first training.

    Every network is really built: not every factory can build on the meta device, and only so are
    the values it refuses, the weights files it reads and its stages of training known.
    """
    import torch

    from segbench.plugins.architecture import resolve_architecture
    from segbench.store.workspace import check_writable
    from segbench.training.defence import load_defence
    from segbench.training.session import list_stages
    from segbench.training.start import find_start

    check_writable(workspace.root)
    if defence:
        load_defence(defence)
    with torch.random.fork_rng([]):
        for architecture in [resolve_architecture(model, data.spatial_dims) for model in models]:
            network = architecture.build(
                in_channels=data.in_channels,
                num_classes=len(data.class_names),
                spatial_dims=data.spatial_dims,
            )
            list_stages(network, architecture.text, epochs)
            find_start(start_from, defence, architecture, data)


def _recipe(preset: str, dataset: str, epochs: int | None) -> Recipe:
    from segbench.plugins.spec import parse
    from segbench.training.recipes import load_recipe

    overrides = {} if epochs is None else {"epochs": epochs}
    return load_recipe(preset, parse(dataset).name, overrides)
