"""segbench export-model: a network with its card, in a form that others load."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from segbench.cli.options import (
    DEFAULT_DATASET,
    LocalPath,
    SpecText,
    data_options,
    own_network_options,
    workspace_option,
)
from segbench.cli.terminal import say
from segbench.data import open_dataset
from segbench.errors import UserError
from segbench.store.workspace import Workspace, check_writable


@click.command("export-model")
@click.argument("model", type=SpecText("models"))
@click.option(
    "--out",
    required=True,
    type=LocalPath(folder=True),
    help="Folder of the files.",
)
@click.option(
    "--format",
    "form",
    type=click.Choice(["safetensors", "monai-bundle"]),
    default="safetensors",
    show_default=True,
    help="A MONAI bundle is made of networks that were trained as monai/NAME.",
)
@own_network_options
@data_options
@workspace_option
def command(
    model: str,
    out: Path,
    form: str,
    weights: tuple[Path, ...],
    dataset: str | None,
    data_root: Path | None,
    workspace: Workspace,
    **said: Any,
) -> None:
    """Write MODEL's weights with a card: where it is from, its hashes, what it expects of images.

    MODEL is what attack -m takes. Of a network that segbench trained, the folder is a checkpoint
    that -m takes too.

    \b
    segbench export-model unet --out my_unet
    segbench export-model monai/SegResNet --format monai-bundle --out my_bundle
    """
    from segbench.export.bundle import export_bundle, require_bundled
    from segbench.export.folder import BUNDLE_WEIGHTS, WEIGHTS, refuse_others
    from segbench.export.model import describe_model, export_weights, weights_of
    from segbench.networks import CheckpointReference, data_of, resolve_models
    from segbench.networks.wishes import Wishes

    for option in ("front", "tta"):
        if said[option]:
            raise UserError(
                f"--{option} is no part of a network's weights; leave it out of what is exported"
            )
    references = resolve_models([model], workspace, weights, Wishes(**said))
    if len(references) > 1:
        names = ", ".join(reference.name for reference in references)
        raise UserError(f"model {model!r} means several networks; name one of {names}")
    (reference,) = references
    check_writable(out)
    data = open_dataset(dataset or data_of(reference) or DEFAULT_DATASET, data_root)
    loaded = reference.load(data)
    card = loaded.card if isinstance(reference, CheckpointReference) else None
    if form == "monai-bundle":
        network = require_bundled(card, loaded.module)
        state = network.network.state_dict()
        refuse_others(out, loaded.weights_sha256, BUNDLE_WEIGHTS, state)
        description = describe_model(reference.name, model, loaded, data)
        written = export_bundle(out, description, network, data)
    else:
        tensors = weights_of(reference.name, loaded.module)
        refuse_others(out, loaded.weights_sha256, WEIGHTS, tensors)
        description = describe_model(reference.name, model, loaded, data)
        written = export_weights(out, description, tensors, card)
    for path in written:
        say(f"wrote {path}")
