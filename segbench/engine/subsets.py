"""What an attack knows of a batch, cut down to some of its cases."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import Tensor

from segbench.api import Context, Goal


def select(record: Any, index: Tensor) -> Any:
    """A State or Feedback of some of its cases: every tensor has the case as its first axis."""
    chosen = {
        f.name: value[index]
        for f in dataclasses.fields(record)
        if isinstance(value := getattr(record, f.name), Tensor)
    }
    return dataclasses.replace(record, **chosen)


def select_goal(goal: Goal, index: Tensor) -> Goal:
    """The goal of the cases at ``index`` (int64, one axis)."""
    start = None if goal.start is None else goal.start[index]
    clean = None if goal.clean_features is None else goal.clean_features[index]
    weights = None if goal.weights is None else goal.weights[index]
    return dataclasses.replace(
        goal,
        labels=goal.labels[index],
        truth=goal.truth[index],
        weights=weights,
        start=start,
        clean_features=clean,
    )


def select_context(context: Context, index: Tensor) -> Context:
    """What stays the same for the cases at ``index``."""
    return dataclasses.replace(
        context,
        images=context.images[index],
        goal=select_goal(context.goal, index),
        noise=context.noise.select(index),
        region=None if context.region is None else context.region[index],
    )
