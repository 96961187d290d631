"""Suites: model specs under one name, as data (``suites.toml``)."""

from __future__ import annotations

import tomllib
from functools import cache
from importlib.resources import files

from segbench.errors import UserError
from segbench.plugins.registry import suggest


def load_suite(name: str) -> tuple[str, ...]:
    """The model specs of a suite, in order.

    Raises:
        UserError: there is no suite of that name.
    """
    if name not in _suites():
        raise UserError(f"unknown suite {name!r}{suggest(name, _suites())}")
    return _suites()[name]


def suite_names() -> list[str]:
    """All suites."""
    return list(_suites())


@cache
def _suites() -> dict[str, tuple[str, ...]]:
    text = (files("segbench.training") / "suites.toml").read_text(encoding="utf-8")
    return {name: tuple(suite["models"]) for name, suite in tomllib.loads(text).items()}
