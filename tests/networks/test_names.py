"""Two networks of one command never bear one name, and one network is there once."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from segbench.errors import UserError
from segbench.networks import resolve_models, trained
from segbench.store.workspace import Workspace

DATASET: Any = SimpleNamespace(in_channels=1, class_names=("background", "lung"), spatial_dims=2)


@pytest.fixture(autouse=True)
def _cards(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Checkpoints whose cards say no more than their spec, and files that need not be there."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(trained, "load_card", lambda folder: SimpleNamespace(model="unet"))
    for folder in ("x/models/unet@jsrt#0", "y/models/unet@jsrt#0", "unet@jsrt#0"):
        (tmp_path / folder).mkdir(parents=True)
        (tmp_path / folder / "card.json").touch()
    for file in ("net.pt2", "c.pt2", "a/net.pt2", "b/net.pt2"):
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).touch()


def names(*texts: str, weights: tuple[str, ...] = ()) -> list[str]:
    found = resolve_models(texts, Workspace(Path("runs")), [Path(file) for file in weights])
    assert len({reference.name for reference in found}) == len(found)
    return [reference.name for reference in found]


@pytest.mark.parametrize(
    ("texts", "weights", "expected"),
    [
        (("a/net.py:build", "b/net.py:build"), (), ["a/net:build", "b/net:build"]),
        (("a/net.py:build", "b/net.py:make"), (), ["net:build", "net:make"]),
        (("k/a/net.py:build", "l/a/net.py:build"), (), ["k/a/net:build", "l/a/net:build"]),
        (("a/net.py:build", "k/a/net.py:build"), (), None),
        (("net.py:build", "net.py:build"), ("w1.pt", "w2.pt"),
         ["net:build (w1.pt)", "net:build (w2.pt)"]),
        (("net.py:build", "net.py:build"), ("a/w.pt", "b/w.pt"),
         ["net:build (a/w.pt)", "net:build (b/w.pt)"]),
        (("net.py:build", "net.py:build"), ("w.pt",), ["net:build (w.pt)", "net:build"]),
        (("pkg.net:build", "pkg.net:build"), ("w1.pt", "w2.pt"),
         ["pkg.net:build (w1.pt)", "pkg.net:build (w2.pt)"]),
        (("a/net.py:build", "b/net.py:build"), ("w.pt", "w.pt"), ["a/net:build", "b/net:build"]),
        (("a/net.py:build", "b/net.py:build", "b/net.py:build"), ("1.pt", "1.pt", "2.pt"),
         ["a/net:build", "b/net:build (1.pt)", "b/net:build (2.pt)"]),
        (("a/net.pt2", "b/net.pt2", "c.pt2"), (), ["a/net.pt2", "b/net.pt2", "c.pt2"]),
        (("x/models/unet@jsrt#0", "y/models/unet@jsrt#0"), (),
         ["x/models/unet@jsrt#0", "y/models/unet@jsrt#0"]),
    ],
)  # fmt: skip
def test_networks_of_one_name_get_as_much_more_as_tells_them_apart(
    texts: tuple[str, ...], weights: tuple[str, ...], expected: list[str] | None
) -> None:
    found = names(*texts, weights=weights)
    assert expected is None or found == expected


@pytest.mark.parametrize(
    ("texts", "weights"),
    [
        (("net.py:build", "./net.py:build"), ()),
        (("net.py:build", "a/../net.py:build"), ("w.pt", "./w.pt")),
        (("net.pt2", "./net.pt2"), ()),
        (("unet@jsrt#0", "./unet@jsrt#0"), ()),
    ],
)
def test_the_same_network_twice_is_one(texts: tuple[str, ...], weights: tuple[str, ...]) -> None:
    assert len(names(*texts, weights=weights)) == 1
    assert names(*texts, weights=weights) == names(texts[0], weights=weights[:1])


def test_a_name_is_the_users_own_where_nothing_shares_it() -> None:
    assert names("a/net.py:build", weights=("w.pt",)) == ["net:build"]


# ---------------------------------------------------------------------------------- what is meant


@pytest.mark.parametrize("text", ["lr=0.1,bs=2/net.py:build", "a b/net.py:build", "x=1.py:build"])
def test_a_path_may_hold_any_character(text: str, tmp_path: Path) -> None:
    """Hydra names folders after what is overridden."""
    file = tmp_path / text.rpartition(":")[0]
    file.parent.mkdir(exist_ok=True)
    file.write_text("from torch import nn\ndef build(): return nn.Conv2d(1, 2, 1)\n")
    (reference,) = resolve_models([text], Workspace(Path("runs")))
    assert reference.load(DATASET).own


@pytest.mark.parametrize("text", ["missing.pt", "runs/missing.pt2", "missing.torchscript"])
def test_a_file_that_is_not_there_is_said_to_be_missing(text: str) -> None:
    with pytest.raises(UserError, match=rf"model file {text} does not exist"):
        resolve_models([text], Workspace(Path("runs")))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("net.py", r"'net\.py' is a file; name what builds it in there: net\.py:build"),
        ("unet:widht=3", "did you mean 'width'"),
        ("unet:width=lots", "whole number"),
        ("unet:width=3", "run segbench train unet:width=3 first"),
        ("unet:spatial_dims=3", "run segbench train unet:spatial_dims=3 first"),
        ("nlcen:encoder_weights=old.pt", "run segbench train nlcen:encoder_weights=old.pt first"),
    ],
)
def test_what_cannot_be_is_not_said_to_be_untrained(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        resolve_models([text], Workspace(Path("runs")))
