"""Suites: every one can be trained, and none trains a network twice."""

import pytest

from segbench.errors import UserError
from segbench.plugins.architecture import resolve_architecture
from segbench.training.suites import load_suite, suite_names


@pytest.mark.parametrize("name", suite_names())
def test_every_network_of_a_suite_is_registered_with_those_keys(name: str) -> None:
    texts = [resolve_architecture(text, 2).text for text in load_suite(name)]
    assert texts
    assert len(set(texts)) == len(texts)


def test_the_papers_suite_holds_nlcen_and_all_its_rivals() -> None:
    rivals = {"unet", "fcn8s", "segnet", "invertednet", "nwcn", "slsdeep", "cdnn"}
    assert set(load_suite("paper")) == {"nlcen", *rivals}


def test_an_unknown_suite_is_named_with_the_nearest() -> None:
    with pytest.raises(UserError, match="unknown suite 'papr'; did you mean 'paper'"):
        load_suite("papr")
