"""segbench attack: adversarial scores of trained networks, over a grid of eps values."""

from __future__ import annotations

from typing import Any

import click

from segbench.cli.options import (
    SpecText,
    at_least,
    case_options,
    data_options,
    device_option,
    executor_options,
    own_network_options,
    plan_option,
    precision_option,
    tile_options,
    workspace_option,
)
from segbench.store.garbage import importing
from segbench.store.workspace import Workspace


@click.command("attack")
@click.option(
    "-m",
    "--model",
    multiple=True,
    type=SpecText("models"),
    help="A trained spec, a checkpoint folder, module:factory, path.py:factory, a TorchScript or "
    "torch.export file, what another library saved (monai-bundle:DIR, nnunet:DIR, hf:DIR, smp:DIR, "
    "onnx:FILE), or ensemble:A+B. Repeatable.  [default: every checkpoint of the workspace]",
)
@own_network_options
@tile_options
@click.option(
    "-a",
    "--attack",
    multiple=True,
    default=("standard",),
    show_default=True,
    type=SpecText("attacks"),
    help="Attack spec, for example pgd:steps=40,restarts=5, or a class of your own, path.py:Class "
    "or module:Class:key=value; where=inside, outside, border:R or mask:FOLDER keeps any to a "
    "part of the image. Repeatable.",
)
@click.option(
    "--eps",
    multiple=True,
    help="Budgets as fractions of [0, 1]: 0.03 or 2/255,8/255. Repeatable; needed by attacks "
    "that have no budgets of their own.",
)
@data_options
@case_options()
@click.option("--seed", type=int, default=0, show_default=True, help="Of the random starts.")
@precision_option
@click.option(
    "--batch-size", type=at_least(1), help="Changes no result on a CPU.  [default: by memory]"
)
@click.option("--boundary", is_flag=True, help="Also hd95 and nsd (slow).")
@click.option(
    "--lesions",
    type=click.FloatRange(0, 1, max_open=True),
    metavar="OVERLAP",
    help="Also count lesions (connected components) that are found and made up; one is found where "
    "a component of the prediction overlaps it by more than this intersection over union, such as "
    "0.1.",
)
@click.option(
    "--quantize",
    is_flag=True,
    help="Also score the images rounded to the bits of their files, as an attack of its own.",
)
@click.option(
    "--save-adversarial",
    is_flag=True,
    help="Keep the images, float32, and the network's labels in the workspace (see segbench "
    "export).",
)
@click.option(
    "--pictures/--no-pictures",
    default=True,
    show_default=True,
    help="Keep small pictures of the worst, the best and a middle case of every cell, for reports.",
)
@click.option(
    "--until-settled",
    is_flag=True,
    help="Attack again, by the standard suite and then its thorough form, where every attack shows "
    "a sign of being stuck, or the lowest score was still falling. It judges untargeted attacks in "
    "L-infinity and L2, and names those that it does not.",
)
@click.option("--fresh", is_flag=True, help="Compute anew what is stored.")
@click.option(
    "--allow-trained-cases",
    is_flag=True,
    help="Attacking cases that a network was trained on is meant.",
)
@executor_options
@plan_option
@device_option
@workspace_option
def command(
    model: tuple[str, ...],
    attack: tuple[str, ...],
    seed: int,
    workspace: Workspace,
    plan: bool,
    **asked: Any,
) -> None:
    """Attack networks and store one row per case and class; finished work is never repeated.

    \b
    segbench attack --eps 0.03
    segbench attack -m unet -a ifgsm -a pgd:restarts=5 --eps 1/255,2/255,4/255
    segbench attack -m my_net.py:build --weights my_net.pt --dataset folder --data-root my_images \\
        --eps 0.01
    """
    with importing():
        from segbench.cli.evaluation import evaluate, show_plan
        from segbench.evaluation.records import validated
        from segbench.evaluation.request import Request

    asked |= {"models": model, "attacks": attack, "seeds": (seed,)}
    request = validated(Request, asked)
    if plan:
        show_plan(request, workspace)
        return
    evaluate(request, workspace)
