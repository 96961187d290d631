"""Plausible changes of place: a pose, a smooth deformation. The truth moves along.

The engine moves image and truth by what is found here, so that what is scored is the network and
not the shift. The loss sees the truth move too: a soft Jaccard with labels interpolated as the
image is, whose own gradient by the displacement is added to that through the image. Without it
every network would seem to be fooled by a shift of one pixel.
"""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import ClassVar, Protocol

import numpy as np
import torch
from torch import Tensor

from segbench.api import Budget, Feedback, Goal, Noise, Objective
from segbench.engine.warp import warped, warped_labels
from segbench_attacks.plausible import Plausible, chosen, pulled_back
from segbench_attacks.severities import EDGE

NODES = 4  # intervals between the control points of a deformation, along each axis


class Motion(Protocol):
    """(u (B, P) in [-1, 1], level, spatial) -> displacements (B, dims, *spatial) in pixels."""

    def __call__(self, u: Tensor, level: float, spatial: tuple[int, ...]) -> Tensor:
        """Differentiable in u."""
        ...


@dataclass(frozen=True, eq=False)
class Moved:
    """A motion on a batch; see ``plausible.Change``.

    Attributes:
        soft: the labels as a probability of each class, (B, K, *spatial), 0 where ignored.
    """

    objective: Objective
    clean: Tensor
    goal: Goal
    soft: Tensor
    motion: Motion
    level: float

    def displacement(self, u: Tensor) -> Tensor:
        """(B, dims, *spatial) in pixels."""
        return self.motion(u, self.level, tuple(self.clean.shape[2:]))

    def gradient(self, u: Tensor) -> tuple[Tensor, Feedback, Goal]:
        """Of the soft Jaccard, by way of the image and of the labels."""
        with torch.enable_grad():
            leaf = u.detach().requires_grad_()
            moves = self.displacement(leaf)
            images, soft = warped(self.clean, moves), _warped_planes(self.soft, moves)
        goal = replace(self._goal(moves.detach()), weights=soft.detach())
        feedback = self.objective.value_and_grad(images.detach(), _loss, goal)
        with torch.enable_grad():
            own = soft_jaccard(feedback.logits, soft, self.clean.dim() - 2)
            own = -own if goal.targeted else own
            found = pulled_back(images, feedback, leaf, own)
        return found, feedback, goal

    def left(self, u: Tensor) -> Tensor:
        """By the original network, against the moved truth."""
        moves = self.displacement(u)
        return self.objective.remaining(warped(self.clean, moves).clamp(0, 1), self._goal(moves))

    def _goal(self, moves: Tensor) -> Goal:
        labels = warped_labels(self.goal.labels, moves)
        return replace(self.goal, labels=labels, truth=warped_labels(self.goal.truth, moves))


@dataclass(frozen=True)
class Geometry(Plausible, ABC):
    """What the changes of place share."""

    motion: ClassVar[Motion]

    @staticmethod
    @abstractmethod
    def count(dims: int) -> int:
        """How many parameters it has in so many dimensions."""

    def warp(
        self, objective: Objective, images: Tensor, goal: Goal, budget: Budget, noise: Noise
    ) -> Tensor:
        """The worst displacements (B, dims, *spatial) that were found, in pixels."""
        classes = objective.scores(images).shape[1]
        soft, motion = _soft(goal, classes), type(self).motion
        moved = [
            Moved(objective, images, goal, soft, motion, level) for level in self.reach(budget)
        ]
        u, of = self.worst(moved, self.count(images.dim() - 2), noise, images)
        return chosen([each.displacement(u) for each in moved], of)


def _soft(goal: Goal, classes: int) -> Tensor:
    """float (B, K, *spatial) of 0 and 1; (B, 2, S, *spatial) for overlapping structures."""
    return torch.stack([goal.labels == k for k in range(classes)], 1).float()


def _warped_planes(soft: Tensor, moves: Tensor) -> Tensor:
    """The same of each plane, interpolated."""
    planes = soft.flatten(1, soft.dim() - moves.dim() + 1)
    return warped(planes, moves).view_as(soft)


def _loss(logits: Tensor, goal: Goal) -> Tensor:
    assert goal.weights is not None
    return soft_jaccard(logits, goal.weights, logits.dim() - 2 - goal.structures)


def soft_jaccard(logits: Tensor, soft: Tensor, dims: int) -> Tensor:
    """1 - soft Jaccard (B,), the mean over the classes that soft labels (B, K, *spatial) have.

    Of overlapping structures, (B, 2, S, *spatial), over those. ``dims`` counts the spatial axes.

    As ``losses.soft_jaccard`` (Rahman & Wang, ISVC 2016), with labels between 0 and 1: of
    probabilities p and labels y, sums of ``p y`` over sums of ``p + y - p y``, over what is known.
    """
    known = soft.sum(1, keepdim=True)
    of = (logits.softmax(1) * known)[:, 1:], soft[:, 1:]
    probability, label = (x.flatten(1, -1 - dims).flatten(2) for x in of)
    shared = (probability * label).sum(2)
    union = (probability + label).sum(2) - shared
    there = (label.sum(2) > 0).to(shared)
    lost = (1 - shared / union.clamp_min(1e-6)) * there
    return lost.sum(1) / there.sum(1).clamp_min(1)


def pose(u: Tensor, level: float, spatial: tuple[int, ...]) -> Tensor:
    """A rotation about the centre and a shift, both limited by ``level``.

    By at most ``level`` degrees about each axis (one in 2-D, three in 3-D) and ``level`` pixels of
    a 224-pixel edge along each, that is level / 224 of its length. Pixels are taken for cubes.
    """
    dims = len(spatial)
    angles = u[:, : _turns(dims)] * math.radians(level)
    shift = u[:, _turns(dims) :] * level / EDGE * _lengths(spatial, u)
    from_centre = _from_centre(spatial).to(u)
    turned = torch.einsum("bij,j...->bi...", _rotation(angles, dims), from_centre)
    return turned - from_centre + shift.reshape(len(u), dims, *[1] * dims)


def deformation(u: Tensor, level: float, spatial: tuple[int, ...]) -> Tensor:
    """A free-form deformation: cubic B-splines over a grid of control points, each free.

    (Rueckert et al., IEEE TMI 1999.) A control point, and so every pixel, moves by at most
    level / 224 of each axis' length along it. That is at most 0.18 of the distance between control
    points at severity 5, under the 0.40 up to which nothing folds (Choi & Lee 2000).
    """
    dims = len(spatial)
    nodes = u.reshape(len(u), dims, *[NODES + 3] * dims)
    for axis, length in enumerate(spatial):
        basis = _splines(length).to(u)
        nodes = torch.tensordot(nodes, basis, ([2], [1]))  # the axis goes to the end
        assert nodes.shape[-1] == length, axis
    furthest = level / EDGE * _lengths(spatial, u)
    return nodes * furthest.reshape(1, dims, *[1] * dims)


@dataclass(frozen=True)
class Pose(Geometry):
    """The worst rigid motion: a rotation and a shift; the truth moves along."""

    motion: ClassVar[Motion] = staticmethod(pose)
    levels: ClassVar[tuple[float, ...]] = (2, 4, 6, 9, 12)

    @staticmethod
    def count(dims: int) -> int:
        """Angles and shifts."""
        return _turns(dims) + dims


@dataclass(frozen=True)
class Deformation(Geometry):
    """The worst smooth deformation of the anatomy that does not fold; the truth deforms along."""

    motion: ClassVar[Motion] = staticmethod(deformation)
    levels: ClassVar[tuple[float, ...]] = (2, 4, 6, 8, 10)

    @staticmethod
    def count(dims: int) -> int:
        """Control points, times axes."""
        return dims * int((NODES + 3) ** dims)


def _lengths(spatial: tuple[int, ...], like: Tensor) -> Tensor:
    """The axes' lengths (dims,) as numbers like ``like``."""
    return torch.tensor(spatial, dtype=like.dtype, device=like.device)


def _turns(dims: int) -> int:
    return 1 if dims == 2 else 3


def _from_centre(spatial: tuple[int, ...]) -> Tensor:
    """Every pixel's place (dims, *spatial), in pixels from the centre."""
    axes = [torch.arange(length) - (length - 1) / 2 for length in spatial]
    return torch.stack(torch.meshgrid(*axes, indexing="ij"))


def _rotation(angles: Tensor, dims: int) -> Tensor:
    """Rotation matrices (B, dims, dims): in each plane of two axes in turn."""
    planes = [(0, 1)] if dims == 2 else [(0, 1), (0, 2), (1, 2)]
    found = torch.eye(dims, device=angles.device).expand(len(angles), dims, dims)
    for (i, j), angle in zip(planes, angles.unbind(1), strict=True):
        turn = torch.zeros(dims, dims, device=angles.device)
        keep = torch.eye(dims, device=angles.device)
        keep[i, i] = keep[j, j] = 0
        cosine, sine = turn.clone(), turn.clone()
        cosine[i, i] = cosine[j, j] = 1
        sine[i, j], sine[j, i] = -1, 1
        found = found @ (
            keep + angle.cos()[:, None, None] * cosine + angle.sin()[:, None, None] * sine
        )
    return found


@lru_cache(maxsize=16)
def _splines(length: int) -> Tensor:
    """float64 (length, NODES + 3): each pixel's weights of the control points; they sum to 1."""
    place = np.linspace(0, NODES, length) if length > 1 else np.array([NODES / 2])
    first = np.minimum(place.astype(int), NODES - 1)
    t = place - first
    weights = np.stack(
        [(1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3], 1
    )
    found = np.zeros((length, NODES + 3))
    for k in range(4):
        found[np.arange(length), first + k] = weights[:, k] / 6
    return torch.from_numpy(found)
