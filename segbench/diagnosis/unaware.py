"""A network as an attack sees it that knows nothing of its declared front.

What such an attack would have reported is what papers on fronts reported (Athalye et al., ICML
2018, arXiv 1802.00420): the gradient stops at what rounds, and follows one draw of what is random.
"""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn

from segbench.diagnosis.examination import Examination
from segbench.engine.network import Network
from segbench.engine.precision import Precision


class Unaware(nn.Module):
    """The same answers, and no layer in sight that declares a stand-in or how often it draws."""

    hides_layers = True

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self._unseen = [network]
        for declared in ("output", "postprocess"):
            if hasattr(network, declared):
                setattr(self, declared, getattr(network, declared))

    def forward(self, images: Tensor) -> Any:
        """The network's."""
        return self._unseen[0](images)


def unaware(examined: Examination) -> Examination | None:
    """The same cases and a network without its declarations; None where it declares nothing."""
    network = examined.network
    declared = any(mark.partition(":")[0] in ("bpda", "eot") for mark in network.marks)
    if not declared or network.meets:
        return None
    bare = Network(
        network.name,
        Unaware(network.module),
        network.classes,
        network.device,
        Precision("fp32", "layers that nobody sees cannot be cast"),
    )
    first = examined.batches[0]
    bare.prepare(first.images[:1], first.truth[:1])
    return Examination(bare, [case for batch in examined.batches for case in batch.cases])
