"""`art/NAME`: the evasion attacks of the Adversarial Robustness Toolbox that segmentation allows.

Their keys are ART's own parameters; eps is the budget's, and `target` what every attack here calls
it. Each batch is one of ART's, with the labels always given: without them ART attacks the network's
own answer. Answers come from the engine, so that gradients are as fast, as exact and as well
counted as any. ART's other attacks are refused, with the reason.
"""

from __future__ import annotations

import inspect
import math
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from segbench.api import Budget, BudgetKind, Context, Goal, Noise, Objective
from segbench.engine import ball
from segbench.errors import UserError
from segbench.plugins.registry import suggest
from segbench_attacks.goals import check_goal
from segbench_attacks.steps import Norm as BallNorm
from segbench_attacks.steps import random_point

if TYPE_CHECKING:
    from segbench_attacks.art_estimator import ObjectiveEstimator

Norm = Literal["inf", "1", "2"]
Images = NDArray[Any]

_KINDS: dict[str, BallNorm] = {"inf": "linf", "1": "l1", "2": "l2"}
_EPS_STEP = 1 / 3  # of eps: the ratio of ART's own defaults, 0.1 and 0.3
_POSITIVE = ("eps_step", "max_iter", "p_init")
_NOT_NEGATIVE = ("decay", "num_random_init")


@dataclass(frozen=True)
class Evasion:
    """What all share: ART's class of the same name on one batch, eps from the budget.

    Attributes:
        target: ``empty``, ``shift`` or ``class:k`` leads there instead of away from the truth.
    """

    target: str | None = None

    needs: ClassVar[Literal["gradients", "scores", "labels"]] = "gradients"
    libraries: ClassVar[tuple[str, ...]] = ("adversarial-robustness-toolbox",)

    def __post_init__(self) -> None:
        check_goal(self.target, "truth")
        for name, value in self._arguments(1.0).items():
            if name in _POSITIVE and not value > 0:
                raise UserError(f"art/{type(self).__name__}: {name}={value} must be positive")
            if name in _NOT_NEGATIVE and value is not None and value < 0:
                raise UserError(f"art/{type(self).__name__}: {name}={value} must not be negative")

    @property
    def budget_kind(self) -> BudgetKind:
        """The norm; L-infinity for attacks that have no choice."""
        return _KINDS[getattr(self, "norm", "inf")]

    def run(
        self, objective: Objective, images: Tensor, goal: Goal, budget: Budget, noise: Noise
    ) -> Tensor:
        """ART's images (B, C, *spatial); the clean ones at an eps of 0, which ART cannot take."""
        return self._found(objective, images, goal, budget, noise) if budget.value else images

    def _found(
        self, objective: Objective, images: Tensor, goal: Goal, budget: Budget, noise: Noise
    ) -> Tensor:
        from art.attacks import evasion

        theirs = getattr(evasion, type(self).__name__)
        estimator = _estimator(objective, goal, images)
        attack = theirs(
            estimator, eps=budget.eps, batch_size=len(images), **self._arguments(budget.eps)
        )
        return _tensor(attack.generate(x=_numpy(images), y=_numpy(goal.labels)), images)

    def _arguments(self, eps: float) -> dict[str, Any]:
        """ART's own parameters, as ART spells their values."""
        values = {f.name: getattr(self, f.name) for f in fields(self) if f.name != "target"}
        if "norm" in values:
            values["norm"] = np.inf if values["norm"] == "inf" else int(values["norm"])
        if "eps_step" in values and values["eps_step"] is None:
            values["eps_step"] = eps * _EPS_STEP
        return values


@dataclass(frozen=True)
class FastGradientMethod(Evasion):
    """ART's FGSM: one step of eps.

    Attributes:
        norm: ``inf``, ``2``, or ``1``, where one pixel takes it all.
    """

    norm: Norm = "inf"


@dataclass(frozen=True)
class BasicIterativeMethod(Evasion):
    """ART's iterative FGSM, from the clean image.

    Attributes:
        eps_step: step size, absolute; by default a third of eps, as ART's defaults are.
        max_iter: steps.
    """

    eps_step: float | None = None
    max_iter: int = 100

    def _arguments(self, eps: float) -> dict[str, Any]:
        return {**super()._arguments(eps), "verbose": False}


@dataclass(frozen=True)
class MomentumIterativeMethod(BasicIterativeMethod):
    """ART's MI-FGSM, in its norms.

    Attributes:
        norm: ``inf``, ``1`` or ``2``.
        decay: what remains of the gathered gradients at each step.
    """

    norm: Norm = "inf"
    decay: float = 1.0


@dataclass(frozen=True)
class ProjectedGradientDescent(BasicIterativeMethod):
    """ART's PGD, the numpy one, which it takes for all but classifiers.

    Attributes:
        norm: ``inf``, ``1`` or ``2``.
        decay: of gathered gradients; by default none are.
        num_random_init: random starts, the best per case by the metric; 0 starts from the clean
            image. They are each case's own, drawn here, since ART draws them for classifiers only.
    """

    norm: Norm = "inf"
    decay: float | None = None
    num_random_init: int = 0

    def _found(
        self, objective: Objective, images: Tensor, goal: Goal, budget: Budget, noise: Noise
    ) -> Tensor:
        context = Context(images, goal, budget, noise)
        if not self.num_random_init:
            return self._from(images, objective, context)
        best = self._from(self._start(context, 0), objective, context)
        for restart in range(1, self.num_random_init):
            found = self._from(self._start(context, restart), objective, context)
            better = objective.remaining(found, goal) < objective.remaining(best, goal)
            best = torch.where(ball.per_case(better, best), found, best)
        return best

    def _start(self, context: Context, restart: int) -> Tensor:
        start = random_point(replace(context, restart=restart), _KINDS[self.norm])
        return ball.project(start, context.images, context.budget)

    def _from(self, start: Tensor, objective: Objective, context: Context) -> Tensor:
        """One run, brought into the ball, where ART's numbers may be a rounding outside."""
        from segbench_attacks.art_estimator import StartedPGD

        images, goal, eps = context.images, context.goal, context.budget.eps
        arguments = self._arguments(eps)
        del arguments["num_random_init"]
        estimator = _estimator(objective, goal, images)
        attack = StartedPGD(estimator, eps=eps, batch_size=len(images), **arguments)
        attack.start = _numpy(start)
        found = _tensor(attack.generate(x=_numpy(images), y=_numpy(goal.labels)), images)
        return ball.project(found, images, context.budget)


@dataclass(frozen=True)
class ProjectedGradientDescentNumpy(ProjectedGradientDescent):
    """The same by ART's other name for it."""


@dataclass(frozen=True)
class SquareAttack(Evasion):
    """ART's Square Attack in L-infinity, on cross-entropy, a case at a time; 2-D only.

    ART's restarts each overwrite the one before, so there are none.

    Attributes:
        max_iter: squares tried.
        p_init: share of the image that the first ones cover.
    """

    max_iter: int = 100
    p_init: float = 0.8

    needs: ClassVar[Literal["gradients", "scores", "labels"]] = "scores"

    def _found(
        self, objective: Objective, images: Tensor, goal: Goal, budget: Budget, noise: Noise
    ) -> Tensor:
        from segbench_attacks.art_estimator import run_square

        self._refuse(tuple(images.shape[2:]))  # volumes, and images too narrow for its squares
        found = []
        for case, number in enumerate(noise.uniform(0, ()).tolist()):
            one = torch.tensor([case], device=images.device)
            own = replace(goal, labels=goal.labels[one], truth=goal.truth[one])
            estimator = _estimator(objective.select(one), own, images[one])
            x, y = _numpy(images[one]), _numpy(own.labels)
            arguments = {"eps": budget.eps, **self._arguments(budget.eps)}
            found.append(run_square(estimator, x, y, int(number * 2**24), **arguments))
        return _tensor(np.concatenate(found), images)

    def _refuse(self, spatial: tuple[int, ...]) -> None:
        if len(spatial) != 2:
            raise UserError("art/SquareAttack is for 2-D images only; `square` takes volumes too")
        side = round(math.sqrt(self.p_init * math.prod(spatial)))
        if side >= min(spatial):
            raise UserError(
                f"art/SquareAttack is for images wider than its squares: {side} pixels in "
                f"{spatial[0]} x {spatial[1]}; lower p_init={self.p_init:g}, or run `square`"
            )


_WORKING = {
    attack.__name__: attack
    for attack in (
        BasicIterativeMethod,
        FastGradientMethod,
        MomentumIterativeMethod,
        ProjectedGradientDescent,
        ProjectedGradientDescentNumpy,
        SquareAttack,
    )
}
NAMES = tuple(_WORKING)

_DETECTOR = "it attacks object detectors"
_CLASSIFIER = "it asks for a classifier, which gives one label per image"
_SPEECH = "it attacks speech recognisers"
_BY_REQUIREMENT = {
    "ClassifierMixin": _CLASSIFIER,
    "ClassGradientsMixin": _CLASSIFIER,
    "GPyGaussianProcessClassifier": "it attacks Gaussian processes",
    "ObjectDetectorMixin": _DETECTOR,
    "ObjectTrackerMixin": "it attacks object trackers",
    "PytorchSpeechRecognizerMixin": _SPEECH,
    "ScikitlearnDecisionTreeClassifier": "it attacks decision trees",
    "SpeechRecognizerMixin": _SPEECH,
}
_FEATURES = "it copies the inner features of a guide image, and there is none"
_BY_NAME = {
    "AdversarialPatchPyTorch": "it trains a patch against one label per image",
    "FeatureAdversariesNumpy": _FEATURES,
    "FeatureAdversariesPyTorch": _FEATURES,
    "FeatureAdversariesTensorFlowV2": _FEATURES,
    "LaserAttack": "it draws a beam of light, which no eps bounds, against one label per image",
    "OverloadPyTorch": _DETECTOR,
    "SNAL": _DETECTOR,
    "SpatialTransformation": "it turns and shifts the image away from its mask",
}


def member(name: str) -> type[Evasion]:
    """The attack of ART's name; ValueError, with the reason, for one that cannot run here."""
    if name in _WORKING:
        return _WORKING[name]
    from art.attacks import evasion
    from art.attacks.attack import EvasionAttack

    theirs = getattr(evasion, name, None)
    if not (inspect.isclass(theirs) and issubclass(theirs, EvasionAttack)):
        raise ValueError(f"ART has no such evasion attack{suggest(name, _WORKING)}")
    requirements: tuple[type, ...] = inspect.getattr_static(theirs, "_estimator_requirements")
    wanted = [requirement.__name__ for requirement in requirements]
    known = [
        _BY_REQUIREMENT[requirement] for requirement in wanted if requirement in _BY_REQUIREMENT
    ]
    reason = _BY_NAME.get(name) or (known or ["it was not written for dense predictions"])[0]
    raise ValueError(
        f"ART's {name} cannot run on segmentation: {reason} (what can: {', '.join(_WORKING)})"
    )


def _estimator(objective: Objective, goal: Goal, images: Tensor) -> ObjectiveEstimator:
    from segbench_attacks.art_estimator import ObjectiveEstimator  # ART takes seconds to import

    return ObjectiveEstimator(objective, goal, images)


def _numpy(tensor: Tensor) -> Images:
    return tensor.cpu().numpy()


def _tensor(found: Images, like: Tensor) -> Tensor:
    return torch.as_tensor(found, dtype=like.dtype, device=like.device)
