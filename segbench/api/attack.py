"""What an attack is: by steps, whole, fitted or transferred, and what it may bring of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, Literal, Protocol, runtime_checkable

from segbench.api.objective import Budget, BudgetKind, Feedback, Goal, Noise, Objective

if TYPE_CHECKING:
    from torch import Tensor

Labels = Literal["truth", "prediction"]


@dataclass(frozen=True, eq=False)
class Context:
    """What stays the same while an attack runs on a batch.

    Attributes:
        images: the clean images (B, C, *spatial).
        restart: 0 for the first run; part of every draw number an attack uses.
        region: bool (B, 1, *spatial), the pixels that may change; None for all. The engine keeps
            every iterate and gradient to it; an attack needs it only to spread what it draws.
    """

    images: Tensor
    goal: Goal
    budget: Budget
    noise: Noise
    restart: int = 0
    region: Tensor | None = None


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

    A plug-in of the group ``segbench.plugins.attack`` is a frozen dataclass whose fields are its
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
        """Adversarial images (B, C, *spatial) of ``images`` (B, C, *spatial) in [0, 1].

        The engine projects them onto ball and box and checks them.
        """
        ...


@runtime_checkable
class WarpAttack(Protocol):
    """An attack that moves what an image shows, and its truth along: a pose, a deformation.

    It says by how much every pixel moves; the engine moves image and truth (``engine/warp.py``),
    and scores the one against the other.
    """

    needs: ClassVar[Literal["gradients", "scores", "labels"]]

    @property
    def budget_kind(self) -> BudgetKind:
        """``severity``."""
        ...

    def warp(
        self, objective: Objective, images: Tensor, goal: Goal, budget: Budget, noise: Noise
    ) -> Tensor:
        """Displacements (B, dims, *spatial) in pixels, one component per spatial axis.

        A pixel of the result shows what was at its place plus the displacement there.
        """
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


Attack = StepAttack | WholeAttack | WarpAttack | FittedAttack | TransferAttack


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
class SeesFeatures(Protocol):
    """A step attack whose loss looks into the middle of the network.

    Its goal then has ``features``, with gradient, and ``clean_features``, in fp32.
    """

    @property
    def layer(self) -> str:
        """A layer's name, or the end of it that no other has; ``deepest`` for the last convolution
        with the fewest places, a network's bottleneck.
        """
        ...


@runtime_checkable
class RunsAnother(Protocol):
    """An attack that runs the one whose spec is its parameter ``attack``.

    What identifies that one, its source and its libraries, then identifies this one too.
    """

    runs_another: ClassVar[Literal[True]]

    @property
    def attack(self) -> str:
        """The spec of the other."""
        ...


@runtime_checkable
class WholeImage(Protocol):
    """An attack whose perturbation means something only as a whole; ``where=`` is refused for it.

    Every other attack within a norm, on an area or of minimum norm can be confined to a part of
    the image, and need not know.
    """

    whole_image: ClassVar[str]
    """Why, as the rest of a sentence: "it would not be smooth at the region's edge"."""


@runtime_checkable
class NamesLibraries(Protocol):
    """An attack whose images are another library's work: its rows are of that library's version.

    The versions are part of a cell's key, so that another version's rows are not taken for these.
    """

    libraries: ClassVar[tuple[str, ...]]
    """Names of distributions, such as ``("monai",)``."""


@runtime_checkable
class StatesGradients(Protocol):
    """An attack with a loop of its own that knows what it costs; one by steps has its plan."""

    @property
    def gradients(self) -> int:
        """Of a case at most: what a plan counts on until the attack has been measured."""
        ...


@runtime_checkable
class MovesPrompts(BringsBudgets, Protocol):
    """An attack on what a user draws and not on the image: the prompt of a prompted network."""

    def prompt_shift(self, budget: Budget) -> float:
        """How far a prompt is moved at most, as a share of the image's longest edge."""
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
