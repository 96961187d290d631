"""Garbage is looked for again, as before, whatever happened meanwhile."""

from __future__ import annotations

import gc

import pytest

from segbench.store.garbage import none_expected


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
