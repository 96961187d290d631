"""The model that models/README.md writes down is one."""

from __future__ import annotations

import pytest
import torch
from pages import PAGES, example

from segbench.plugins.architecture import Architecture
from segbench.plugins.contract import check_factory
from segbench.plugins.registry import Plugin

BUILD = example(PAGES["model"]).build


def architecture(**parameters: int) -> Architecture:
    return Architecture("plain", Plugin("models", "plain", BUILD, "mine", "1"), parameters)


@pytest.mark.parametrize("dims", [2, 3])
def test_the_example_builds_and_answers(dims: int) -> None:
    check_factory("models", BUILD)
    network = architecture(width=4).build(in_channels=2, num_classes=3, spatial_dims=dims)
    spatial = (9, 7, 5)[:dims]
    assert network(torch.rand(2, 2, *spatial)).shape == (2, 3, *spatial)


def test_the_module_alone_is_as_the_page_shows_it() -> None:
    features = torch.rand(1, 512, 4, 4)
    assert example(PAGES["model"], 1, features=features).refined.shape == features.shape
