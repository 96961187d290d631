"""Small pictures: the worst, the best and a middle case of a cell, and nothing that unfolds."""

from __future__ import annotations

import json
import zlib
from dataclasses import replace

import numpy as np
import pytest
import torch

from segbench.store.pictures import VIEWS, Kept, keep_picture, kept_pictures, load_picture, wanted
from segbench.store.tensors import save_tensors
from segbench.store.workspace import Workspace


def _kept(name: str) -> Kept:
    random = np.random.default_rng(len(name))
    plane = {view: random.integers(0, 100, (8, 6), np.uint8) for view in VIEWS}
    plane["clean"] = random.integers(0, 255, (8, 6, 3), np.uint8)
    plane["change"] = random.integers(-127, 127, (8, 6)).astype(np.int8)
    return Kept(name * 64, (plane,), 8 / 255, {"spacing": "1 × 1 mm"})


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path)


def test_the_lowest_the_highest_and_one_between_stay_however_they_come(workspace):
    for scores in ({"a": 0.5, "b": 0.6, "c": 0.7}, {"d": 0.1, "e": 0.65}, {"f": 0.9, "1": 0.2}):
        whole = {name * 64: score for name, score in scores.items()}
        for content in wanted(workspace, "cell", whole):
            keep_picture(workspace, "cell", whole[content], _kept(content[0]))
    kept = [content[0] for content in kept_pictures(workspace, "cell")]
    assert (kept[0], kept[-1], len(kept)) == ("d", "f", 3)
    assert wanted(workspace, "cell", {"2" * 64: 0.5}) == []


def test_a_picture_reads_back_as_it_was(workspace):
    kept = _kept("a")
    keep_picture(workspace, "cell", 0.25, kept)
    back = load_picture(kept_pictures(workspace, "cell")["a" * 64])
    assert (back.content, back.scale, back.facts) == (kept.content, kept.scale, kept.facts)
    for view in VIEWS:
        np.testing.assert_array_equal(back.planes[0][view], kept.planes[0][view])
        assert back.planes[0][view].dtype == kept.planes[0][view].dtype


@pytest.mark.parametrize(
    ("changed", "kept", "read"),
    [(False, 1.0, 0.0), (False, 0.0, 0.0), (False, 8 / 255, 8 / 255), (True, 1.0, 1.0)],
)
def test_what_nothing_changed_has_no_largest_change_whichever_version_kept_it(
    changed, kept, read, workspace
):
    """Older versions kept 1 of it; a volume may have changed where its planes do not lie."""
    picture = _kept("a")
    picture.planes[0]["change"][:] = 127 * changed
    keep_picture(workspace, "cell", 0.25, replace(picture, scale=kept))
    assert load_picture(kept_pictures(workspace, "cell")["a" * 64]).scale == read


def test_what_is_damaged_or_unfolds_without_end_is_no_picture(workspace):
    bomb = np.frombuffer(zlib.compress(bytes(10**7)), np.uint8).copy()
    path = workspace.pictures / "cell" / f"0.500000-{'a' * 64}.safetensors"
    for shape in (["uint8", 10**9], ["float64", 8], ["uint8", -1], "no", ["uint8", 8, 8]):
        facts = {"scale": "0.1", "facts": "{}", "shapes": json.dumps({"0.clean": shape})}
        save_tensors(path, {"0.clean": torch.from_numpy(bomb)}, facts)
        assert load_picture(path) is None
    path.write_bytes(b"nothing")
    assert load_picture(path) is None
    assert load_picture(path.with_name(f"0.500000-{'b' * 64}.safetensors")) is None
