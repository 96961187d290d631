"""A registered network that cannot be built is named, however its factory fails."""

from __future__ import annotations

import pytest
from torch import nn

from segbench.errors import MachineError, UserError
from segbench.plugins.architecture import Architecture
from segbench.plugins.registry import Plugin


@pytest.mark.parametrize(
    ("failure", "kind", "words"),
    [
        (ValueError("width is odd"), UserError, "model mine cannot be built: width is odd"),
        (KeyError("x"), MachineError, "model mine of theirs failed to build: KeyError"),
        (SystemExit(0), MachineError, "model mine of theirs failed to build: SystemExit: 0"),
    ],
)
def test_a_factory_that_fails_is_named(
    failure: BaseException, kind: type[Exception], words: str
) -> None:
    def build(*, in_channels: int, num_classes: int, spatial_dims: int = 2) -> nn.Module:
        raise failure

    plugin = Plugin("models", "mine", build, "theirs", "1")
    with pytest.raises(kind, match=words):
        Architecture("mine", plugin, {}).build(in_channels=1, num_classes=2, spatial_dims=2)
