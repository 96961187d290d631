"""The contracts: what flows between the rooms, and what a plug-in must offer.

Everything here is a frozen record or a Protocol. Shapes are written ``(B, C, *spatial)``: B cases,
C image channels, then two or three spatial axes; K is the number of classes, background included.
Images are float32 in [0, 1]; eps is always a fraction of that range.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol, runtime_checkable

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray
    from pandas import DataFrame
    from torch import Tensor, nn

BudgetKind = Literal["linf", "l2", "l1", "severity", "area", "min-norm", "none"]
Output = Literal["softmax", "sigmoid"]
Labels = Literal["truth", "prediction"]


# ------------------------------------------------------------------------------------------ data


@dataclass(frozen=True)
class Intensity:
    """How [0, 1] maps back to the file's own units: ``low + value * (high - low)``.

    ``bits`` is the depth of an integer file (8, 12, 16), None for floating point.
    """

    low: float
    high: float
    bits: int | None = None


@dataclass(frozen=True, eq=False)
class Case:
    """One image to be segmented, with its truth.

    Attributes:
        case_id: unique in its data set.
        group_id: the patient or volume; cases of one group are not independent.
        image: float32 (C, *spatial) in [0, 1].
        labels: int64 (*spatial), values 0..K-1 or ``ignore_index``.
        class_names: K names, background first.
        intensity: the map back to the file's own units of each channel, where known.
        spacing: millimetres per pixel along each spatial axis, where known.
        affine: the file's 4 x 4 voxel-to-world matrix, where known.
        source: the image file it came from, None if generated.
        depth: which axial slice of a volume it is, counted along the canonical third axis.
    """

    case_id: str
    group_id: str
    image: NDArray[np.float32]
    labels: NDArray[np.int64]
    class_names: tuple[str, ...]
    ignore_index: int | None = None
    intensity: tuple[Intensity, ...] | None = None
    spacing: tuple[float, ...] | None = None
    affine: NDArray[np.float64] | None = None
    source: Path | None = None
    depth: int | None = None


@dataclass(frozen=True)
class Entry:
    """A case that has not been loaded: its names and the shape (C, *spatial) it will have."""

    case_id: str
    group_id: str
    shape: tuple[int, ...]


class Dataset(Protocol):
    """Random access to the Cases of named splits.

    A plug-in of the group ``segbench.datasets`` is a factory of these: a frozen dataclass or a
    function whose keyword parameters are its options, with ``root: Path | None`` for the folder
    (``segbench train --data-root``). It validates everything at construction and raises
    ``segbench.errors.UserError`` naming every bad file at once.
    """

    @property
    def class_names(self) -> tuple[str, ...]:
        """K names, background first."""
        ...

    @property
    def in_channels(self) -> int:
        """C of every image."""
        ...

    @property
    def spatial_dims(self) -> int:
        """2 or 3."""
        ...

    @property
    def resize_rule(self) -> str:
        """One sentence: how files become images, and at what resolution they are scored."""
        ...

    @property
    def splits(self) -> tuple[str, ...]:
        """The names of its splits; ``train`` and ``test`` at least."""
        ...

    def entries(self, split: str) -> Sequence[Entry]:
        """The cases of a split, in a fixed order, without reading pixels."""
        ...

    def load(self, case_id: str) -> Case:
        """One case; the same bytes every time."""
        ...

    def fingerprint(self) -> str:
        """SHA-256 (hex) of all that determines its cases: file contents and options."""
        ...


# ----------------------------------------------------------------------------------------- model


class ModelFactory(Protocol):
    """A plug-in of the group ``segbench.models``: builds a network from its hyper-parameters.

    The network maps images (B, C, *spatial) in [0, 1] to logits (B, K, *spatial); normalisation is
    its own business. In training mode it may return ``(logits, [auxiliary logits, ...])``.
    """

    def __call__(
        self, *, in_channels: int, num_classes: int, spatial_dims: int = 2, **parameters: Any
    ) -> nn.Module:
        """The network, freshly initialised from torch's global random state."""
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


# ---------------------------------------------------------------------------------------- attack


@dataclass(frozen=True)
class Budget:
    """How far an attack may go: the kind of limit and its exact value."""

    kind: BudgetKind
    value: Fraction

    @property
    def eps(self) -> float:
        """The value as a float."""
        return float(self.value)


class Noise(Protocol):
    """Random numbers as a pure function of (seed, data set, case, draw).

    Never of the batch, the order, the attack or eps: a case meets the same start at every eps.
    """

    def uniform(self, draw: int, shape: Sequence[int]) -> Tensor:
        """float32 (B, *shape), uniform in [0, 1)."""
        ...

    def normal(self, draw: int, shape: Sequence[int]) -> Tensor:
        """float32 (B, *shape), standard normal."""
        ...

    def select(self, index: Tensor) -> Noise:
        """The noise of some of the cases."""
        ...


@dataclass(frozen=True, eq=False)
class Goal:
    """What the attack is after: away from ``labels``, or towards them if ``targeted``.

    Attributes:
        labels: int64 (B, *spatial), what the loss is computed against.
        truth: int64 (B, *spatial), what is scored.
        ignore_index: label value that is neither attacked nor scored.
        weights: (B, N, *spatial), N numbers for each label; only where the attack's State is a
            :class:`WeightedState`.
    """

    labels: Tensor
    truth: Tensor
    targeted: bool = False
    ignore_index: int | None = None
    weights: Tensor | None = None


Loss = Callable[["Tensor", Goal], "Tensor"]
"""(logits (B, K, *spatial), goal) -> loss per case (B,)."""


class Objective(Protocol):
    """What an attack may ask of the network; each answer is counted."""

    def value_and_grad(self, images: Tensor, loss: Loss, goal: Goal) -> Feedback:
        """Loss per case, its gradient by the images, and the logits.

        Loss and gradient are signed so that an attack always ascends: for a targeted goal they
        are negated.
        """
        ...

    def scores(self, images: Tensor) -> Tensor:
        """Logits (B, K, *spatial) in fp32."""
        ...

    def labels(self, images: Tensor) -> Tensor:
        """Predicted labels int64 (B, *spatial)."""
        ...

    def remaining(self, images: Tensor, goal: Goal) -> Tensor:
        """What an attack has left to do (B,), in [0, 1]; lower is stronger, 0 the worst case.

        The case's Jaccard, or 1 minus the agreement with the target; by the original network in
        fp32. By this measure the better of two images is chosen.
        """
        ...

    def select(self, index: Tensor) -> Objective:
        """The same for some of the cases (int64, one axis), to be asked about those alone.

        What is asked is counted as theirs, and a case with a NaN answer is named.
        """
        ...


@dataclass(frozen=True, eq=False)
class Feedback:
    """One answer of the network: loss (B,), gradient (B, C, *spatial), logits (B, K, *spatial).

    A step attack sees what it ``needs`` and no more. For ``scores`` the gradient is 0. For
    ``labels`` there are no logits either, and the loss is how far it has come, in [0, 1]: 1 minus
    ``Objective.remaining``. Both are answers of the original network in fp32.
    """

    loss: Tensor
    gradient: Tensor
    logits: Tensor


@dataclass(frozen=True, eq=False)
class Context:
    """What stays the same while an attack runs on a batch.

    Attributes:
        images: the clean images (B, C, *spatial).
        restart: 0 for the first run; part of every draw number an attack uses.
    """

    images: Tensor
    goal: Goal
    budget: Budget
    noise: Noise
    restart: int = 0


@dataclass(frozen=True, eq=False)
class State:
    """Where an attack is. Attacks add fields; every tensor has the case as its first axis."""

    images: Tensor  # (B, C, *spatial): the current iterate


@dataclass(frozen=True, eq=False)
class WeightedState(State):
    """A State with numbers for each label that the loss is to find in its goal."""

    weights: Tensor  # (B, N, *spatial)


@dataclass(frozen=True)
class Plan:
    """How the engine is to run a step attack.

    Attributes:
        steps: gradient steps per restart.
        restarts: independent runs; the best per case, by the scored metric, is kept.
        stop_early: whether a case at the worst possible score may leave the batch, which is right
            for attacks defined by their best result and wrong for those defined by their last.
        labels: whether the loss sees the truth or the network's own clean prediction.
        keep: which iterate of a restart counts. ``best`` proposes the lowest score along the way,
            read off the gradient's own logits, and lets the original network decide, in fp32,
            between that iterate and the last. The clean image is the first it has to beat.
            ``nearest`` is for a :class:`MinimumNorm` attack: of the iterates that score below the
            budget's value the nearest to the clean image, moved nearer yet along the line between
            them; the clean image itself where there is none. With ``stop_early`` a case leaves
            with its first such iterate.
        radii: the size of the ball at each step as a share of the budget, () for 1 throughout.
            What lies in a larger ball is only on the way: it is neither kept nor finished.
    """

    steps: int
    restarts: int = 1
    stop_early: bool = False
    labels: Labels = "truth"
    keep: Literal["last", "best", "nearest"] = "last"
    radii: tuple[float, ...] = ()


@runtime_checkable
class StepAttack(Protocol):
    """An attack by steps: the engine loops, projects, compacts, counts and keeps the best.

    A plug-in of the group ``segbench.attacks`` is a frozen dataclass whose fields are its
    hyper-parameters. Iterates need not stay in the ball: the engine projects every one of them.
    """

    needs: ClassVar[Literal["gradients", "scores", "labels"]]

    @property
    def budget_kind(self) -> BudgetKind:
        """The kind of budget it is run under."""
        ...

    def plan(self, budget: Budget) -> Plan:
        """How many steps and restarts under this budget."""
        ...

    def init(self, context: Context) -> State:
        """The start of one restart."""
        ...

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """Loss per case (B,) to be increased; ``progress`` is step / steps, in [0, 1)."""
        ...

    def step(self, context: Context, state: State, feedback: Feedback) -> State:
        """The next iterate, from the answer at the current one."""
        ...


@runtime_checkable
class Targeted(Protocol):
    """An attack that may be given a target; see ``targets.py``. Its goal is then targeted."""

    @property
    def target(self) -> str | None:
        """``empty``, ``shift``, ``class:k``, ``file:FOLDER``; None leads away from the truth."""
        ...


class WholeAttack(Protocol):
    """An attack that keeps its own loop: search methods and foreign libraries."""

    needs: ClassVar[Literal["gradients", "scores", "labels"]]

    @property
    def budget_kind(self) -> BudgetKind:
        """The kind of budget it is run under."""
        ...

    def run(
        self, objective: Objective, images: Tensor, goal: Goal, budget: Budget, noise: Noise
    ) -> Tensor:
        """Adversarial images (B, C, *spatial); the engine projects and checks them."""
        ...


@dataclass(frozen=True)
class Schedule:
    """How a fitted attack is trained: passes over at most ``cases`` training cases, evenly spread
    over the split, in mini-batches that are part of its definition and not of the memory.
    """

    epochs: int
    batch: int
    cases: int


@runtime_checkable
class FittedAttack(Protocol):
    """An attack that is trained on the train split and then applied to every image as it is.

    What the training finds are named tensors; the engine loops over the epochs, keeps them in the
    workspace after each and goes on from there. In a Context of the training ``restart`` is the
    epoch, from 1 on; where the attack is applied for good it is 0.
    """

    needs: ClassVar[Literal["gradients", "scores", "labels"]]

    @property
    def budget_kind(self) -> BudgetKind:
        """The kind of budget it is run under."""
        ...

    def schedule(self) -> Schedule:
        """How it is trained."""
        ...

    def start(self, shape: tuple[int, ...], budget: Budget) -> Mapping[str, Tensor]:
        """What it knows before the first step, for images (C, *spatial) of one shape."""
        ...

    def apply(self, fitted: Mapping[str, Tensor], context: Context) -> Tensor:
        """Adversarial images (B, C, *spatial); the engine projects and checks them."""
        ...

    def loss(self, logits: Tensor, goal: Goal, progress: float) -> Tensor:
        """Loss per case (B,) to be increased; ``progress`` is step / steps, in [0, 1)."""
        ...

    def learn(
        self, fitted: Mapping[str, Tensor], context: Context, feedback: Feedback, progress: float
    ) -> Mapping[str, Tensor]:
        """What it knows after a mini-batch, from the answer at ``apply(fitted, context)``."""
        ...


@runtime_checkable
class TransferAttack(Protocol):
    """An attack whose images are made against another network, ``source``, by another attack."""

    needs: ClassVar[Literal["gradients", "scores", "labels"]]

    @property
    def budget_kind(self) -> BudgetKind:
        """That of the attack on the source."""
        ...

    @property
    def source(self) -> str:
        """A checkpoint of the workspace, as text."""
        ...

    @property
    def attack(self) -> str:
        """The spec of the attack on the source."""
        ...


Attack = StepAttack | WholeAttack | FittedAttack | TransferAttack


@runtime_checkable
class BringsBudgets(Protocol):
    """An attack whose budgets are its own, not values of eps: severities, an area, or none.

    Its ``budget_kind`` is ``severity``, ``area`` or ``min-norm``. Only the box binds its images:
    the engine clips them to [0, 1] and checks no ball, but for an ``area`` that no more than that
    share of the pixels differs.
    """

    @property
    def budgets(self) -> Sequence[Budget]:
        """What it is run at, in order."""
        ...


@runtime_checkable
class MinimumNorm(BringsBudgets, Protocol):
    """An attack that makes a distance small: its kind is ``min-norm``.

    It has one budget, whose value is the Jaccard that a case has to fall below.
    """

    @property
    def norm(self) -> Literal["linf", "l2"]:
        """The distance; a hyper-parameter of that name, so that rows record it."""
        ...


# ---------------------------------------------------------------------------------------- report


@dataclass(frozen=True, eq=False)
class Tables:
    """Everything a report may show, computed once from the stored rows (see ``tables.py``).

    Attributes:
        rows: one row per case and class, the store's columns.
        cases: one row per case: every metric averaged over the classes its label has; minimum-norm
            attacks as points at the eps values of others.
        curves: one row per model, data set, attack and budget: mean, interval, drop, cases; the
            worst of several attacks is one more.
        summary: one row per model, data set and attack: one column per eps, area under the curve.
        distances: one row per minimum-norm attack: the median and quartiles of its distances, and
            how many cases fell.
        seeds: mean and spread over the training seeds of a network, at every point of its curves.
        comparisons: paired differences of two networks' Jaccard, at every point of both curves.
        notes: sentences that a reader must see beside the numbers.
        attacks: attack label -> its complete parameters.
        provenance: versions, devices, weights and fingerprints behind the rows.
    """

    rows: DataFrame
    cases: DataFrame
    curves: DataFrame
    summary: DataFrame
    distances: DataFrame
    seeds: DataFrame
    comparisons: DataFrame
    notes: Sequence[str] = ()
    attacks: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


class Report(Protocol):
    """A plug-in of the group ``segbench.reports``: a pure function of the stored rows."""

    def __call__(self, tables: Tables, directory: Path) -> Sequence[Path]:
        """Write the report's files into ``directory`` and return their paths."""
        ...
