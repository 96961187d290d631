"""segbench.attack: tensors in, tensors out."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from segbench.api import TransferAttack, WarpAttack
from segbench.data.in_memory import SPLIT, InMemory
from segbench.door.resolving import find_given, fit_classes, surrounded
from segbench.door.undisturbed import undisturbed
from segbench.errors import UserError
from segbench.evaluation.fits import Fits
from segbench.evaluation.grid import Cell, cut_shards, expand_grid
from segbench.evaluation.plan import plan_grid
from segbench.evaluation.records import validated
from segbench.evaluation.request import DataSource, Request, select_data
from segbench.evaluation.subject import load_subject
from segbench.evaluation.worker import Worker
from segbench.networks import ModelReference
from segbench.plugins.dataset import load_case
from segbench.store.workspace import Workspace, open_workspace

_OPTIONS = (
    "weights", "normalize", "channels", "output", "resize_logits", "tta", "front",
    "precision", "device", "batch_size",
)  # fmt: skip


def attack(
    network: nn.Module | str,
    images: Any,
    labels: Any,
    attack: str = "standard",
    *,
    eps: str | float | None = None,
    seed: int = 0,
    ignore_index: int | None = None,
    workspace: Path | str | None = None,
    **options: Any,
) -> Tensor:
    """The adversarial images of some images, checked to lie in their ball and in [0, 1].

    >>> import segbench, torch
    >>> network = torch.nn.Conv2d(1, 2, 1)
    >>> images, labels = torch.rand(2, 1, 32, 32), torch.zeros(2, 32, 32).long()
    >>> attacked = segbench.attack(network, images, labels, "pgd:steps=2", eps="4/255")
    >>> attacked.shape == images.shape, bool((attacked - images).abs().max() <= 4 / 255 + 1e-6)
    (True, True)

    Args:
        network: a module, which stays as it is, or what ``segbench attack -m`` takes.
        images: (N, C, *spatial) in [0, 1], floating point.
        labels: (N, *spatial), whole numbers 0 to K - 1 or ``ignore_index``.
        attack: its spec, such as ``"apgd:steps=100"``.
        eps: the budget of attacks that have none of their own, such as ``"4/255"``.
        seed: of the random starts.
        ignore_index: the label of pixels that are not scored, nor attacked for; the image is
            changed there as elsewhere.
        workspace: where a network that is named by its spec was trained.
        options: ``weights``, ``normalize``, ``channels``, ``output``, ``resize_logits``, ``tta``,
            ``precision``, ``device`` or ``batch_size``; see
            :class:`segbench.evaluation.request.Request`.

    Returns:
        float32 (N, C, *spatial), on the device of ``images``.

    Raises:
        segbench.errors.UserError: an argument cannot be used.
        segbench.errors.MachineError: memory is full, or the attack fails.
    """
    request = _request(attack, eps, seed, options)
    place = images.device if isinstance(images, Tensor) else torch.device("cpu")
    with undisturbed():
        data = InMemory(images, labels, ignore_index=ignore_index)
        cell = _cell(request)
        if cell is None:
            return torch.from_numpy(data.images).to(place)
        store = None if workspace is None else open_workspace(workspace)
        reference = _only(find_given(network, request, store), network)
        data = fit_classes(data, reference, request)
        reference = surrounded(reference, request)
        attacked = list(
            _attacked(reference, select_data(data.name, data, SPLIT, None), cell, request)
        )
        return torch.cat(attacked).to(place)


def _request(attack: str, eps: str | float | None, seed: int, options: dict[str, Any]) -> Request:
    for key in options:
        if key not in _OPTIONS:
            raise UserError(f"segbench.attack has no option {key!r} (valid: {', '.join(_OPTIONS)})")
    asked = {"attacks": [attack], "eps": [] if eps is None else [eps], "seeds": [seed]}
    return validated(Request, {**asked, **options})


def _cell(request: Request) -> Cell | None:
    """The one that is asked for; None at an eps of 0, which leaves the images as they are.

    Raises:
        UserError: the attack takes its images from elsewhere, or is run at several budgets.
    """
    cells = [cell for cell in expand_grid(plan_grid(request)) if cell.attack]
    if len(cells) > 1:
        budgets = ", ".join(f"{cell.budget.eps:g}" for cell in cells)
        raise UserError(
            f"attack {cells[0].label} is run at {len(cells)} budgets here ({budgets}); "
            "segbench.attack takes one of them, segbench.evaluate all"
        )
    if cells and cells[0].attack and isinstance(cells[0].attack.attack, WarpAttack):
        raise UserError(
            f"attack {cells[0].label} moves the truth along with the image; segbench.attack gives "
            "images alone, segbench.evaluate scores them against the truth they show"
        )
    if cells and cells[0].attack and isinstance(cells[0].attack.attack, TransferAttack):
        raise UserError(
            f"attack {cells[0].label} scores images that were made against another network; give "
            "segbench.attack that network and its attack"
        )
    return cells[0] if cells else None


def _only(references: Any, network: nn.Module | str) -> ModelReference:
    if len(references) > 1:
        names = ", ".join(reference.name for reference in references)
        raise UserError(f"network {network!r} means several networks; name one of {names}")
    return references[0]  # type: ignore[no-any-return]


def _attacked(
    reference: ModelReference, data: DataSource, cell: Cell, request: Request
) -> Iterator[Tensor]:
    """The adversarial images, in order, part by part."""
    subject = load_subject(reference, data, request)
    shards = [
        [load_case(data.dataset, entry.case_id) for entry in shard]
        for shard in cut_shards(data.entries)
    ]
    with tempfile.TemporaryDirectory(prefix="segbench-") as folder:
        fits = Fits(subject, Workspace(Path(folder)), request)
        fits.facts(cell)
        worker = Worker(subject, shards[0][:2], fits, request, lambda _: None)
        for cases in shards:
            yield worker.attack(cell, cases).images
