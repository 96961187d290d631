"""segbench attack: adversarial scores of trained networks, over a grid of eps values."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from segbench.cli.options import (
    SpecText,
    at_least,
    channels_option,
    data_options,
    device_option,
    workspace_option,
)

if TYPE_CHECKING:
    from segbench.channels import Channels


@click.command("attack")
@click.option(
    "-m",
    "--model",
    multiple=True,
    type=SpecText("models"),
    help="A trained spec, a checkpoint folder, module:factory, path.py:factory, or a "
    "TorchScript or torch.export file. Repeatable.  "
    "[default: every checkpoint of the workspace]",
)
@click.option(
    "--weights",
    multiple=True,
    type=click.Path(path_type=Path, exists=True, dir_okay=False),
    help="Weights of your own network (.safetensors, .pt, .pth); one per such -m, in order.",
)
@click.option(
    "--normalize",
    default="",
    help="What your own network expects of its images: imagenet, zscore, 0-255 or "
    "mean=0.5,std=0.25.  [default: pixels in 0 to 1]",
)
@channels_option
@click.option(
    "-a",
    "--attack",
    multiple=True,
    default=("pgd",),
    show_default=True,
    type=SpecText("attacks"),
    help="Attack spec, for example pgd:steps=40,restarts=5. Repeatable.",
)
@click.option(
    "--eps",
    multiple=True,
    help="Budgets as fractions of [0, 1]: 0.03 or 2/255,8/255. Repeatable; needed by attacks "
    "that have no budgets of their own.",
)
@data_options
@click.option("--split", default="test", show_default=True)
@click.option("--limit", type=at_least(1), help="At most so many cases, spread over the split.")
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random starts.")
@click.option(
    "--precision",
    type=click.Choice(["auto", "fp32"]),
    default="auto",
    show_default=True,
    help="Of gradients only; every decision and score is fp32.",
)
@click.option("--batch-size", type=at_least(1), help="Changes no result.  [default: by memory]")
@click.option("--boundary", is_flag=True, help="Also hd95 and nsd (slow).")
@click.option(
    "--quantize",
    is_flag=True,
    help="Also score the images rounded to the bits of their files, as an attack of its own.",
)
@click.option(
    "--save-adversarial",
    is_flag=True,
    help="Keep the images, float32, in the workspace (see segbench export).",
)
@device_option
@workspace_option
def command(
    model: tuple[str, ...],
    weights: tuple[Path, ...],
    normalize: str,
    channels: Channels | None,
    attack: tuple[str, ...],
    eps: tuple[str, ...],
    dataset: str | None,
    data_root: Path | None,
    split: str,
    limit: int | None,
    seed: int,
    precision: str,
    batch_size: int | None,
    boundary: bool,
    quantize: bool,
    save_adversarial: bool,
    device: str | None,
    workspace: Path,
) -> None:
    """Attack networks and store one row per case and class; finished work is never repeated.

    \b
    segbench attack --eps 0.03
    segbench attack -m unet -a ifgsm -a pgd:restarts=5 --eps 1/255,2/255,4/255
    segbench attack -m my_net.py:build --weights my_net.pt --dataset folder --data-root my_images \\
        --eps 0.01
    """
    from segbench.cli.evaluation import Request, evaluate

    evaluate(
        Request(
            models=model,
            weights=weights,
            normalize=normalize,
            channels=channels,
            attacks=attack,
            eps=eps,
            dataset=dataset,
            data_root=data_root,
            split=split,
            limit=limit,
            seeds=(seed,),
            precision="fp32" if precision == "fp32" else "auto",
            batch_size=batch_size,
            boundary=boundary,
            quantize=quantize,
            save_adversarial=save_adversarial,
            device=device,
        ),
        workspace,
    )
