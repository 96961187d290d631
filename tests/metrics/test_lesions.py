"""Lesion-wise counts: against brute force over all matchings, by hand, and their rules."""

from __future__ import annotations

from itertools import combinations, permutations

import numpy as np
import pytest
import torch

from segbench.metrics.lesions import count, lesion_counts


def flooded(mask):
    """The components of a mask as sets of pixels, by a flood over all neighbours."""
    left, found = {*map(tuple, np.argwhere(mask).tolist())}, []
    while left:
        edge, whole = [left.pop()], set()
        while edge:
            pixel = edge.pop()
            whole.add(pixel)
            near = {other for other in left if max(abs(a - b) for a, b in zip(pixel, other)) <= 1}  # noqa: B905
            left -= near
            edge += near
        found.append(whole)
    return found


def by_trying_all(mask, truth, overlap):
    """The most pairs of any one-to-one assignment whose every pair overlaps enough."""
    lesions, parts = flooded(truth), flooded(mask)

    def enough(a, b):
        return len(a & b) / len(a | b) > overlap if a & b else False

    most = 0
    few, many = sorted((lesions, parts), key=len)
    for size in range(len(few), 0, -1):
        for chosen in combinations(few, size):
            for others in permutations(many, size):
                if all(enough(a, b) for a, b in zip(chosen, others, strict=True)):
                    return len(lesions), size, len(parts) - size
    return len(lesions), most, len(parts) - most


@pytest.mark.parametrize("shape", [(9, 9), (5, 5, 4)])
@pytest.mark.parametrize("overlap", [0.0, 0.1, 0.25, 0.5])
def test_counts_are_those_of_the_best_of_all_matchings(shape, overlap):
    random = np.random.default_rng(int(100 * overlap) + len(shape))
    seen, share = set(), 0.1 if len(shape) == 2 else 0.08
    for trial in range(40):
        truth = random.random(shape) < share
        noise = random.random(shape)
        mask = noise < share if trial % 2 else truth ^ (noise < 0.05)
        if max(len(flooded(truth)), len(flooded(mask))) > 6:
            continue
        found = count(mask, truth, overlap)
        assert found == by_trying_all(mask, truth, overlap)
        seen.add(found)
    assert len(seen) > 8


def drawn(*rows):
    return np.array([[sign == "#" for sign in row] for row in rows])


def test_one_part_over_two_lesions_finds_one_of_them():
    truth = drawn("##.##", "##.##")
    assert count(drawn("#####", "#####"), truth, 0.0) == (2, 1, 0)
    assert count(drawn("#####", "#####"), truth, 0.4) == (2, 0, 1)  # 4 of 10 is not more than 0.4


def test_two_parts_of_one_lesion_find_it_once():
    assert count(drawn("##.##"), drawn("#####"), 0.1) == (1, 1, 1)


def test_the_most_pairs_are_made_and_not_the_best_first():
    """A part that two lesions want goes to the one that has no other."""
    truth = drawn("####.##", ".......")
    mask = drawn("#..####", ".......")
    assert count(mask, truth, 0.0) == (2, 2, 0)


def test_corners_touch_in_every_dimension():
    corners = np.zeros((2, 2, 2), bool)
    corners[0, 0, 0] = corners[1, 1, 1] = True
    assert count(corners, corners, 0.5) == (1, 1, 0)
    assert count(corners[0], corners[0], 0.5) == (1, 1, 0)
    assert count(drawn("#.", ".#"), drawn("#.", ".#"), 0.5) == (1, 1, 0)


def test_what_is_not_there_is_not_found_and_what_is_made_up_is_false():
    none, two = np.zeros((3, 5), bool), drawn("#...#", ".....", ".....")
    assert count(none, none, 0.1) == (0, 0, 0)
    assert count(two, none, 0.1) == (0, 0, 2)
    assert count(none, two, 0.1) == (2, 0, 0)


def test_each_class_has_its_own_and_what_is_unknown_is_nothing():
    truth = torch.zeros(2, 4, 4, dtype=torch.bool)
    truth[0, 0, 0], truth[0, 3, 3], truth[1, 1] = True, True, True
    valid = torch.ones_like(truth)
    valid[:, 3] = False
    found = lesion_counts(truth, truth, valid, 0.5)
    assert (
        found == [{"lesions": 1, "lesions_found": 1, "lesions_false": 0, "lesion_overlap": 0.5}] * 2
    )
    (nothing, _) = lesion_counts(truth & False, truth, valid, 0.5)
    assert (nothing["lesions"], nothing["lesions_found"]) == (1, 0)
