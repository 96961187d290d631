"""Garbage is looked for again, as before, whatever happened meanwhile."""

from __future__ import annotations

import gc
import sys
from types import ModuleType
from weakref import ref

import pytest

from segbench.store.garbage import importing, none_expected


def fail_within() -> None:
    with none_expected():
        assert not gc.isenabled()
        raise LookupError


@pytest.mark.parametrize("on", [True, False])
def test_it_is_left_as_it_was_found(on: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if on else gc.disable)()
        with pytest.raises(LookupError):
            fail_within()
        assert gc.isenabled() == on
    finally:
        (gc.enable if before else gc.disable)()


class Circle:
    """What only a search for garbage finds."""

    itself: Circle


def test_what_is_imported_is_never_looked_through_again() -> None:
    """Nor is garbage set apart with it, and nothing where everything had been imported."""
    name = "segbench_imported_by_this_test"
    try:
        with importing():
            assert not gc.isenabled()
            sys.modules[name] = ModuleType(name)
        frozen = gc.get_freeze_count()
        assert frozen > 0
        with importing():
            pass
        assert gc.get_freeze_count() <= frozen
        circle = Circle()
        circle.itself, gone = circle, ref(circle)
        del circle
        with importing():
            sys.modules[name + "_later"] = ModuleType(name)
        assert gone() is None
    finally:
        sys.modules.pop(name, None)
        sys.modules.pop(name + "_later", None)
        gc.unfreeze()
