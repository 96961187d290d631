"""What a model is: a network that maps images to logits, and what it may bring of its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    from torch import Tensor, nn

    from segbench.api.data import Case

Output = Literal["softmax", "sigmoid"]


class ModelFactory(Protocol):
    """A plug-in of the group ``segbench.models``: builds a network from its hyper-parameters.

    The network maps images (B, C, *spatial) in [0, 1] to logits (B, K, *spatial); normalisation is
    its own business. In training mode it may return ``(logits, [auxiliary logits, ...])``.
    """

    def __call__(
        self, *, in_channels: int, num_classes: int, spatial_dims: int = 2, **parameters: Any
    ) -> nn.Module:
        """The network, freshly initialised from torch's global random state.

        Raises ValueError, in one sentence, for hyper-parameters or sizes it cannot be built for.
        """
        ...


@runtime_checkable
class BringsLoss(Protocol):
    """A network that knows its own training loss."""

    def loss(self, outputs: Any, labels: Tensor) -> Tensor:
        """A scalar, from the training-mode outputs and labels (B, *spatial); -100 is ignored."""
        ...


@runtime_checkable
class BringsStages(Protocol):
    """A network that is trained in stages, each with its own trainable parameters."""

    def stages(self) -> Sequence[str]:
        """The stages' names, in order; training time is shared equally among them."""
        ...

    def enter_stage(self, stage: str) -> None:
        """Prepare for a stage: freeze, unfreeze, attach."""
        ...


@runtime_checkable
class BringsPostprocess(Protocol):
    """A network whose published prediction is more than the argmax of its logits."""

    def postprocess(self, logits: Tensor) -> Tensor:
        """Labels (B, *spatial) from logits (B, K, *spatial)."""
        ...


@runtime_checkable
class MeetsCases(Protocol):
    """A network, or a layer of one, that must know more of a case than its image: its spacing, or a
    prompt.

    It is asked about one case at a time, and told of each before its first question.
    """

    def meet(self, case: Case) -> None:
        """Whatever is asked until the next case is met is asked about this one."""
        ...


@runtime_checkable
class BringsStandIn(Protocol):
    """A layer that cannot be differentiated, and brings a differentiable one that is close to it.

    Usually the front of a defended network: one that rounds, compresses or denoises its images.
    Attacks go forward through the layer and backward through its stand-in (BPDA: Athalye et al.,
    ICML 2018); decisions and scores are the original network's. Rows are marked ``bpda``.
    """

    def stand_in(self, inputs: Tensor) -> Tensor:
        """What the layer would answer were it smooth, in the shape of its answer.

        For a layer that changes its input little, the input itself.
        """
        ...


@runtime_checkable
class BringsRandomness(Protocol):
    """A network, or a layer of one, that draws random numbers on purpose when it answers.

    It draws from torch's global generator, which is seeded for each case. Gradients are the mean
    over so many draws (EOT: Athalye et al., ICML 2018); every decision and every score is one
    draw of the original network. Rows are marked ``eot:N``.
    """

    @property
    def eot_samples(self) -> int:
        """How many draws a gradient is averaged over."""
        ...
