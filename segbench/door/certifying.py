"""segbench.certify: what ``segbench certify`` does, from Python."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from torch import nn

from segbench.door.evaluating import Result, evaluate
from segbench.door.resolving import Data
from segbench.errors import UserError
from segbench.evaluation.request import Listener


def certify(
    network: nn.Module | str,
    data: Data,
    *,
    sigma: float | Sequence[float] = 0.25,
    tau: float | Sequence[float] = 0.75,
    n: int = 100,
    n0: int = 10,
    alpha: float = 0.001,
    correction: Literal["holm", "bonferroni"] = "holm",
    hierarchy: str = "",
    workspace: Path | str | None = None,
    name: str | None = None,
    listener: Listener | None = None,
    **asked: Any,
) -> Result:
    """What provably withstands every change within an L2 radius, by randomised smoothing.

    Of the smoothed network, which answers what the network answers most often under noise, and
    abstains where that is not sure; see :mod:`segbench.evaluation.certificate`.

    >>> import segbench, torch
    >>> network = torch.nn.Conv2d(1, 1, 1).requires_grad_(False)
    >>> _ = network.weight.fill_(9), network.bias.fill_(-4)
    >>> images = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0))
    >>> labels = (images[:, 0] > 4 / 9).long()
    >>> result = segbench.certify(network, (images, labels), sigma=0.1, tau=0.8)
    >>> whole = result.tables.certificates.query("class_name == 'all'").iloc[0]
    >>> print(f"{whole['radius']:.4f}", 0 < whole["jaccard"] <= whole["smoothed_jaccard"] < 1)
    0.0842 True

    Args:
        network: as :func:`segbench.evaluate` takes it.
        data: likewise.
        sigma: standard deviation of the noise in shares of the pixel range, or several.
        tau: the probability that a class must be shown to exceed, above 0.5, or several.
        n: draws of the test.
        n0: further draws that choose what is tested.
        alpha: the chance, at most, that any pixel of a case is certified wrongly.
        correction: for the number of pixels.
        hierarchy: coarser classes, ``"lungs={1,2}; any={1,2,3}"``.
        workspace: as :func:`segbench.evaluate` takes it; draws are kept there.
        name: likewise.
        listener: likewise.
        asked: other options of ``segbench certify``: ``limit``, ``split``, ``device`` ...

    Returns:
        A result as of :func:`segbench.evaluate`; ``result.tables.certificates`` has what is proved.

    Raises:
        segbench.errors.UserError: a value, the network or the data cannot be used.
        segbench.errors.MachineError: memory or the disk is full.
    """
    for key in ("attacks", "eps", "certify"):
        if key in asked:
            raise UserError(f"{key} is no option of segbench.certify; segbench.evaluate takes it")
    wanted = {
        "sigma": sigma, "tau": tau, "n": n, "n0": n0, "alpha": alpha,
        "correction": correction, "hierarchy": hierarchy,
    }  # fmt: skip
    return evaluate(
        network, data, workspace=workspace, name=name, listener=listener,
        attacks=(), certify=wanted, **asked,
    )  # fmt: skip
