"""Certificates of whole cases: closed forms, attacks within the radius, and what decides a draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from statistics import NormalDist
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom
from torch import Tensor, nn
from toys import Curved, Gains

import segbench
from segbench.api import Case, Entry
from segbench.engine.network import Network
from segbench.errors import UserError
from segbench.evaluation import certify as certifying
from segbench.evaluation import draws as drawing
from segbench.evaluation.batch import collate
from segbench.evaluation.certificate import Certify, Smoothing, held_by
from segbench.evaluation.certify import certify_case
from segbench.evaluation.draws import Draws
from segbench.evaluation.grid import Cell
from segbench.evaluation.records import validated
from segbench.metrics.certificates import least_draws, p_values
from segbench.store.workspace import Workspace

Prepared = Callable[..., Network]


def smoothing(**given: Any) -> Smoothing:
    (one,) = validated(Certify, {"sigma": 0.2, "n": 100, **given}).certificates
    return one


def cell(one: Smoothing, seed: int = 0) -> Cell:
    return Cell(None, one.budget, seed, one)


def case(image: Tensor, labels: Tensor, names: Sequence[str] = ("no", "yes"), **more: Any) -> Case:
    return Case("c", "c", image.numpy(), labels.numpy(), tuple(names), **more)


def draws_of(network: Network, workspace: Path, sha256: str = "net") -> Draws:
    return Draws(network, sha256, Workspace(workspace), fresh=False, busy=lambda said: None)


def certified(draws: Draws, one: Smoothing, of: Case) -> Tensor:
    """The candidate that is certified at every place."""
    network, batch = draws.network, collate([of], draws.network)
    known = certifying._known(network, batch)
    held = held_by(one, ("no", "yes") if network.structures else of.class_names)
    votes = draws.votes(batch, 0, one.sigma, "choice", one.n0)
    chosen = certifying._choose(votes, held, one, known)
    votes = draws.votes(batch, 0, one.sigma, "test", one.n)
    agreed = certifying._agreements(votes, held, chosen)
    return certifying._certified(agreed, chosen, known, one, len(held) - 1)


class Linear(nn.Module):
    """Every place by a plane: a weighted sum of its neighbourhood of three by three."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Conv2d(1, 1, 3, padding=1)
        generator = torch.Generator().manual_seed(4)
        self.body.weight.data = torch.randn(1, 1, 3, 3, generator=generator)
        self.body.bias.data = -self.body.weight.data.sum()[None] / 2

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.body(images)
        return logits


def distances(images: Tensor) -> Tensor:
    """How far each place (H, W) is from its plane, in L2: below 0 on the side of ``no``."""
    body = Linear().body
    with torch.no_grad():
        logits = body(images)[0, 0]
        ones = torch.ones_like(images)
        norms = nn.functional.conv2d(ones, body.weight.square(), padding=1)[0, 0].sqrt()
    return logits / norms


@pytest.mark.parametrize("correction", ["holm", "bonferroni"])
def test_on_a_linear_network_the_radius_is_the_closed_form_within_its_confidence(
    prepared: Prepared, tmp_path: Path, correction: str
) -> None:
    image = torch.rand(1, 1, 48, 48, generator=torch.Generator().manual_seed(1))
    away = distances(image)
    one = smoothing(n=400, n0=30, tau=0.8, correction=correction)
    of = case(image[0], (away > 0).long()[0:48])
    found = certified(draws_of(prepared(Linear(), image), tmp_path), one, of)
    radius, sure = float(one.budget.value), found < 2
    # No certified place has its plane nearer than the radius, and it is on that side.
    assert sure.any()
    assert (away.abs()[sure] >= radius).all()
    assert torch.equal(found[sure] == 1, away[sure] > 0)
    # Places whose exact probability is sure to pass even Bonferroni's test are certified.
    exact = away.abs().div(one.sigma).double().numpy()
    enough = np.flatnonzero(p_values(one.n, one.tau) * sure.numel() <= one.alpha)[0]
    power = binom.sf(enough - 1, one.n, NormalDist().cdf(0) + np.vectorize(_above)(exact))
    strong = torch.from_numpy(power > 1 - 1e-7)
    assert strong.sum() > 100
    assert sure[strong].all()


def _above(value: float) -> float:
    return NormalDist().cdf(value) - 0.5


class Smoothed(nn.Module):
    """The mean probability over fixed draws of noise, as logits: what an attack can climb."""

    def __init__(self, network: nn.Module, sigma: float, noise: Tensor) -> None:
        super().__init__()
        self.network, self.sigma = network, sigma
        self.noise = nn.Buffer(noise)

    def forward(self, images: Tensor) -> Tensor:
        noised = images[:, None] + self.sigma * self.noise
        logits = self.network(noised.flatten(0, 1))
        chances = (4 * logits).softmax(1).unflatten(0, noised.shape[:2])
        return chances.mean(1).clamp_min(1e-9).log()


def balanced(image: Tensor) -> nn.Module:
    """A curved network that gives half of the image either class."""
    network = Curved().eval()
    with torch.no_grad():
        logits = network(image)[0]
        network.head.bias[1] -= (logits[1] - logits[0]).median()
    return network


def majority(network: nn.Module, images: Tensor, sigma: float, draws: int = 4000) -> Tensor:
    """The share of each class (K, H, W) over many draws that no certificate has seen."""
    generator, votes = torch.Generator().manual_seed(99), torch.zeros(2, *images.shape[2:])
    for _ in range(draws // 200):
        noise = torch.randn(200, *images.shape[1:], generator=generator)
        with torch.no_grad():
            labels = network(images + sigma * noise).argmax(1)
        votes += torch.stack([(labels == k).float().sum(0) for k in range(2)])
    return votes / draws


@pytest.mark.parametrize("attack", ["sea:norm=l2,steps=30", "standard:norm=l2,cost=quick"])
def test_no_attack_on_the_smoothed_network_within_the_radius_flips_a_certified_pixel(
    prepared: Prepared, tmp_path: Path, attack: str
) -> None:
    generator = torch.Generator().manual_seed(2)
    image = torch.rand(1, 1, 12, 12, generator=generator)
    network = balanced(image)
    clean = majority(network, image, 0.2).argmax(0)
    one = smoothing(n=200, n0=20)
    found = certified(draws_of(prepared(network, image), tmp_path), one, case(image[0], clean))
    sure = found < 2
    assert 40 < sure.sum() < sure.numel()
    classes = found.clamp_max(1).long()[None]
    shares = majority(network, image, 0.2).gather(0, classes)[0]
    weakest = shares == shares[sure].min()
    noise = torch.randn(48, 1, 12, 12, generator=generator)
    smoothed, radius = Smoothed(network, 0.2, noise), float(one.budget.value)

    def left(eps: float, of: Tensor) -> Tensor:
        """The shares of the certified classes, once all was spent on some places."""
        target = torch.where(of, found.long(), 255)[None]
        moved = segbench.attack(smoothed, image, target, attack, eps=eps, ignore_index=255)
        assert (moved - image).norm() <= eps * (1 + 1e-5)
        return majority(network, moved, 0.2).gather(0, classes)[0]

    assert (left(radius, sure)[sure] > 0.5).all()
    assert (left(radius, weakest)[sure] > 0.5).all()
    assert (left(2 * radius, weakest)[weakest] < 0.5).all()  # and it does flip what lies without


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many draws each question to a network was of; a negative last entry ends it there."""
    counts: list[int] = []
    real = drawing.answers

    def counting(network: Network, images: Tensor, batch: Any) -> Tensor:
        if counts and counts[0] < 0 and sum(counts[1:]) >= -counts[0]:
            raise KeyboardInterrupt
        counts.append(len(images))
        return real(network, images, batch)

    monkeypatch.setattr(drawing, "answers", counting)
    return counts


def scene(side: int = 16) -> Case:
    image = torch.rand(1, side, side, generator=torch.Generator().manual_seed(5))
    with torch.no_grad():
        return case(image, Curved().eval()(image[None]).argmax(1)[0])


def plain(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rows without what a clock says, and NaN as text."""
    return [{k: str(v) for k, v in row.items() if k != "seconds"} for row in rows]


def test_a_killed_certificate_goes_on_with_the_next_draw_and_is_equal_to_the_bit(
    prepared: Prepared, tmp_path: Path, asked: list[int]
) -> None:
    of, one = scene(), smoothing()
    network = prepared(Curved(), torch.from_numpy(of.image)[None])
    whole = certify_case(draws_of(network, tmp_path / "whole"), cell(one), of)
    assert sum(asked) == one.n0 + one.n
    asked[:] = [-(one.n0 + 60)]
    with pytest.raises(KeyboardInterrupt):
        certify_case(draws_of(network, tmp_path / "cut"), cell(one), of)
    asked.clear()
    again = certify_case(draws_of(network, tmp_path / "cut"), cell(one), of)
    assert sum(asked) == one.n - 60
    assert plain(again) == plain(whole)
    assert not list((tmp_path / "cut").rglob("*.part.safetensors"))


def test_more_draws_begin_with_those_that_are_kept(
    prepared: Prepared, tmp_path: Path, asked: list[int]
) -> None:
    of, few, many = scene(), smoothing(), smoothing(n=300)
    network = prepared(Curved(), torch.from_numpy(of.image)[None])
    first = certify_case(draws_of(network, tmp_path / "a"), cell(few), of)
    asked.clear()
    later = certify_case(draws_of(network, tmp_path / "a"), cell(many), of)
    assert sum(asked) == 200
    assert plain(later) == plain(certify_case(draws_of(network, tmp_path / "b"), cell(many), of))
    asked.clear()
    other = smoothing(tau=0.6, alpha=0.01, correction="bonferroni")
    certify_case(draws_of(network, tmp_path / "a"), cell(other), of)
    assert plain(certify_case(draws_of(network, tmp_path / "a"), cell(few), of)) == plain(first)
    assert asked == []  # of the same draws


def test_a_damaged_file_of_votes_is_as_good_as_none(
    prepared: Prepared, tmp_path: Path, asked: list[int]
) -> None:
    of, one = scene(), smoothing()
    network = prepared(Curved(), torch.from_numpy(of.image)[None])
    whole = certify_case(draws_of(network, tmp_path), cell(one), of)
    for path in tmp_path.rglob("*test*.safetensors"):
        content = bytearray(path.read_bytes())
        content[-1] ^= 1
        path.write_bytes(content)
    asked.clear()
    assert plain(certify_case(draws_of(network, tmp_path), cell(one), of)) == plain(whole)
    assert sum(asked) == one.n


def test_draws_do_not_depend_on_how_many_are_asked_about_at_once(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    of, one = scene(), smoothing()
    network = prepared(Curved(), torch.from_numpy(of.image)[None])
    whole = certify_case(draws_of(network, tmp_path / "20"), cell(one), of)
    monkeypatch.setattr(drawing, "_AT_ONCE", 7)
    assert plain(certify_case(draws_of(network, tmp_path / "7"), cell(one), of)) == plain(whole)


def test_ignored_places_are_neither_tested_nor_scored(prepared: Prepared, tmp_path: Path) -> None:
    of, one = scene(), smoothing()
    network = prepared(Curved(), torch.from_numpy(of.image)[None])
    labels = of.labels.copy()
    labels[:8] = 255
    masked = case(torch.from_numpy(of.image), torch.from_numpy(labels), ignore_index=255)
    (row,) = certify_case(draws_of(network, tmp_path), cell(one), masked)
    found = certified(draws_of(network, tmp_path), one, masked)[8:]
    truth = torch.from_numpy(labels)[8:] == 1
    hit, may = (found == 1) & truth, (found >= 1) & ~truth
    assert row["jaccard"] == int(hit.sum()) / int(truth.sum() + may.sum())
    assert row["abstained"] == pytest.approx(float((found == 2).float().mean()))
    assert row["smoothed_jaccard"] == int(hit.sum()) / int(((found == 1) | truth).sum())
    assert row["jaccard"] <= row["smoothed_jaccard"]


def test_where_two_classes_share_the_votes_the_coarser_one_is_certified(
    prepared: Prepared, tmp_path: Path
) -> None:
    """Left and right are a coin, and background is never answered."""
    image = torch.stack([torch.full((8, 8), value) for value in (0.0, 0.9, 0.9)])
    image[:, :4] = torch.tensor([0.9, 0.0, 0.0])[:, None, None]
    labels = torch.zeros(8, 8, dtype=torch.long)
    labels[4:, :4], labels[4:, 4:] = 1, 2
    of = case(image, labels, ("background", "left", "right"))
    network = prepared(Gains(), image[None], classes=3)
    draws = draws_of(network, tmp_path)
    flat = certify_case(draws, cell(smoothing(sigma=0.1)), of)
    nested = smoothing(sigma=0.1, hierarchy="lungs={left, 2}")
    coarse = certify_case(draws, cell(nested), of)
    assert [row["abstained"] for row in flat] == [0.5, 0.5]
    assert [row["coarse"] for row in flat] == [0, 0]
    assert [row["abstained"] for row in coarse] == [0, 0]
    assert [row["coarse"] for row in coarse] == [0.5, 0.5]
    # Nothing is surely left; what is surely background is surely not left.
    for rows in (flat, coarse):
        assert [row["jaccard"] for row in rows] == [0, 0]
        assert [row["false_positives"] for row in rows] == [16, 16]
    found = certified(draws, nested, of)
    assert (found[:4] == 0).all()
    assert (found[4:] == 3).all()


def test_a_coarser_certificate_rules_out_what_it_does_not_hold(
    prepared: Prepared, tmp_path: Path
) -> None:
    """Where a lung is certified, and which one is not, heart is not answered."""
    image = torch.stack([torch.full((6, 6), value) for value in (0.0, 0.9, 0.9, 0.0)])
    of = case(image, torch.ones(6, 6).long(), ("background", "left", "right", "heart"))
    network = prepared(Gains(), image[None], classes=4)
    draws = draws_of(network, tmp_path)
    hearts = [
        certify_case(draws, cell(smoothing(sigma=0.1, hierarchy=text)), of)[2]["specificity"]
        for text in ("", "lungs={1,2}")
    ]
    assert hearts == [0, 1]


class Structures(nn.Module):
    """Two structures that overlap, a sigmoid each."""

    output = "sigmoid"

    def forward(self, images: Tensor) -> Tensor:
        return 9 * (images[:, :2] - 0.5)


@pytest.mark.parametrize("dims", [2, 3])
def test_structures_that_overlap_are_certified_one_by_one(
    prepared: Prepared, tmp_path: Path, dims: int
) -> None:
    image = torch.full((2, *[8] * dims), 0.1)
    image[0, :4], image[1, 2:6], image[1, 6:] = 0.9, 0.9, 0.5
    labels = torch.zeros([8] * dims, dtype=torch.long)
    labels[:2], labels[2:4], labels[4:6] = 1, 3, 2
    regions = ((1, 3), (2, 3))
    of = case(image, labels, ("background", "whole", "core"), regions=regions)
    network = prepared(Structures(), image[None], classes=3)
    whole, core = certify_case(draws_of(network, tmp_path), cell(smoothing(sigma=0.1)), of)
    assert (whole["jaccard"], whole["abstained"]) == (1, 0)
    assert core["abstained"] == 0.25  # where its sigmoid is a coin
    assert core["jaccard"] == 4 / (4 + 2)  # there it may be answered, where it is not
    assert core["smoothed_jaccard"] == 1


def test_a_network_that_draws_itself_draws_anew_with_every_draw_and_alike_every_time(
    prepared: Prepared, tmp_path: Path
) -> None:
    class Coin(nn.Module):
        def forward(self, images: Tensor) -> Tensor:
            return images + 100 * (torch.rand(len(images), 1, 1, 1) - 0.5)

    of = scene(8)
    network = prepared(Coin(), torch.from_numpy(of.image)[None])
    assert network.one_by_one
    votes = [
        draws_of(network, tmp_path / name).votes(collate([of], network), 0, 0.1, "test", 100)
        for name in ("a", "b")
    ]
    assert torch.equal(*votes)
    assert 20 < int(votes[0][1].min()) <= int(votes[0][1].max()) < 80
    (row,) = certify_case(draws_of(network, tmp_path / "a"), cell(smoothing()), of)
    assert "random-network" in row["marks"]


def test_too_few_draws_for_a_case_are_said_with_the_least_that_would_do(
    prepared: Prepared, tmp_path: Path
) -> None:
    of = scene()
    network = prepared(Curved(), torch.from_numpy(of.image)[None])
    with pytest.raises(UserError, match=r"certify nothing of the 256 places .* at least n = 44$"):
        certify_case(draws_of(network, tmp_path), cell(smoothing(n=43)), of)
    certify_case(draws_of(network, tmp_path), cell(smoothing(n=44)), of)


def test_seeds_draw_otherwise_and_sigmas_scale_one_draw(
    prepared: Prepared, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Tensor] = []
    real = drawing.answers
    monkeypatch.setattr(
        drawing, "answers", lambda n, images, b: seen.append(images) or real(n, images, b)
    )
    of = scene(8)
    network, image = prepared(Curved(), torch.from_numpy(of.image)[None]), of.image
    for seed, sigma in ((0, 0.1), (0, 0.2), (1, 0.1)):
        draws_of(network, tmp_path).votes(collate([of], network), seed, sigma, "test", 5)
    first, doubled, other = (drawn - torch.from_numpy(image) for drawn in seen)
    torch.testing.assert_close(doubled, 2 * first, atol=1e-6, rtol=0)
    assert (first - other).abs().amax() > 0.1
    draws_of(network, tmp_path).votes(collate([of], network), 0, 0.1, "choice", 5)
    assert (seen[-1] - seen[0]).abs().amax() > 0.1


def test_everything_that_decides_a_certificate_is_in_its_facts() -> None:
    plain = smoothing()
    others = [
        smoothing(**{name: value})
        for name, value in {
            "sigma": 0.3, "tau": 0.9, "n": 200, "n0": 20, "alpha": 0.01,
            "correction": "bonferroni", "hierarchy": "any={1,2}",
        }.items()
    ]  # fmt: skip
    facts = [str(one.facts) for one in (plain, *others)]
    assert len(set(facts)) == len(facts)
    assert Fraction(0) < plain.budget.value < Fraction(1)
    assert plain.budget.kind == "certified"


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"sigma": 0.0}, "sigma = 0 is no noise"),
        ({"sigma": float("nan")}, "expected a finite number"),
        ({"sigma": "much"}, "expected a number or a list of numbers"),
        ({"tau": 0.49}, "tau = 0.49 is no probability to certify"),
        ({"tau": 0.5}, "tau = 0.5 is no probability to certify"),  # of no change at all
        ({"tau": 1.0}, "tau = 1 is no probability to certify"),
        ({"alpha": 1.0}, "alpha = 1 is no chance of error"),
        ({"n": 0}, "n = 0; expected a whole number from 1 up"),
        ({"hierarchy": "lungs=1,2"}, "expected name={class, class}"),
    ],
)
def test_values_that_cannot_be_are_said_in_a_sentence(given: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match="(?s)" + words.replace("{", r"\{")):
        list(validated(Certify, given).certificates)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("a={1,4}", "a has '4', no class; there are 0 background, 1 left"),
        ("a={1}", "a is no coarser class"),
        ("a={0,1,2,3}", "a is no coarser class"),
        ("a={1,2}; b={2,3}", "b and a overlap, and neither holds the other"),
    ],
)
def test_hierarchies_that_are_none(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        held_by(smoothing(hierarchy=text), ("background", "left", "right", "heart"))


def test_a_member_that_is_the_name_of_one_class_and_the_number_of_another_is_refused() -> None:
    names = ("0", "2", "1")
    with pytest.raises(UserError, match=r"'1', the name of one class and the number of another"):
        held_by(smoothing(hierarchy="a={0,1}"), names)
    same = ("0", "1", "2", "both")  # here nothing else can be meant
    assert np.array_equal(
        held_by(smoothing(hierarchy="a={1,2}"), same),
        held_by(smoothing(hierarchy="a={1,2}"), ("no", "left", "right", "both")),
    )


def test_too_few_draws_for_any_case_are_refused_and_no_more_cases_are_read_than_need_be() -> None:
    """The largest is hardly scored anywhere; the one in the middle is, everywhere."""
    sides, scored = {"small": 4, "middle": 40, "large": 80}, {"large": 4}
    read = []

    def load(case_id: str) -> Case:
        read.append(case_id)
        side = sides[case_id]
        labels = torch.full((side, side), 255, dtype=torch.int64)
        labels[: scored.get(case_id, side), : scored.get(case_id, side)] = 0
        return case(torch.zeros(1, side, side), labels, ignore_index=255)

    entries = [Entry(name, name, (1, side, side)) for name, side in sides.items()]
    data = SimpleNamespace(dataset=SimpleNamespace(load=load), entries=entries)
    few = smoothing(n=least_draws(0.75, 0.001, 16))
    with pytest.raises(UserError, match="1600 places of case middle"):
        certifying._require_enough([few], data, 1)  # type: ignore[arg-type]
    assert read == ["middle"]
    read.clear()
    enough = smoothing(n=least_draws(0.75, 0.001, 1600))
    certifying._require_enough([enough], data, 1)  # type: ignore[arg-type]
    assert read == ["large"]
