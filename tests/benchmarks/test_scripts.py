"""Each benchmark prints what benchmarks/README.md says it prints."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from segbench.cli import main as segbench

Print = Callable[..., str]


@pytest.fixture
def printed(script, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Print:
    """``printed("limit", "--size", "32")``: what that prints in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(name: str, *options: str) -> str:
        done = CliRunner().invoke(script(name).main, options, catch_exceptions=False)
        assert done.exit_code == 0, done.output
        return done.output

    return call


@pytest.fixture
def attacked(script, printed: Print) -> None:
    """A workspace ``runs`` in which a network was attacked."""
    network = f"{script('setting').NETWORKS}:pixel"
    asked = ["-m", network, "--dataset", "phantom-cxr:size=32", "--limit", "1", "--eps", "4/255"]
    done = CliRunner().invoke(segbench, ["attack", *asked, "-a", "pgd:steps=10"])
    assert done.exit_code == 0, done.output


def test_precision_prints_both_scores_of_one_attack(printed: Print) -> None:
    shown = printed("precision", "--network", "pixel", "--size", "32", "--cases", "1",
                    "--attack", "pgd:steps=2", "--eps", "1/255")  # fmt: skip
    [line] = [line for line in shown.splitlines() if "1/255" in line]
    exact, fast, difference = map(float, re.findall(r"[+-]?\d\.\d{4}", line))
    assert difference == pytest.approx(fast - exact, abs=1.1e-4)


def test_schedule_and_strength_print_what_a_workspace_holds(printed: Print, attacked) -> None:
    shown = printed("schedule", "--cells", "20", "--cases", "4", "--devices", "2")
    assert "20 cells of 1 networks and 1 measured (network, attack), 4 cases" in shown
    assert "2 devices, one queue: makespan" in shown
    shown = printed("strength", "--show")
    assert re.search(r"\| pgd \| 0\.\d{3} \|", shown)
    assert Path("strength.md").read_text() == shown


def test_scaling_fits_the_costs_that_runs_have(script) -> None:
    scaling = script("scaling")
    costs = {"start": 2.0, "load": 0.1, "cell": 0.5, "case": 0.03, "step": 0.004}
    runs = [(n, e, s, m) for n in (4, 16) for e in (1, 4) for s in (1, 4) for m in (1, 2)]
    seconds = [
        m * (costs["start"] + n * costs["load"])
        + m * (e + 1) * (costs["cell"] + n * costs["case"])
        + m * e * n * s * costs["step"]
        for n, e, s, m in runs
    ]
    assert scaling.fit(runs, seconds) == pytest.approx(costs)


@pytest.mark.slow
@pytest.mark.parametrize("dataset", ["phantom-cxr", "volumes"])
def test_limit_prints_a_row_for_each_precision(printed: Print, dataset: str) -> None:
    shown = printed("limit", "--network", "unet16", "--dataset", dataset, "--size", "32",
                    "--batch", "1", "--repeats", "1")  # fmt: skip
    assert len([line for line in shown.splitlines() if re.search(r"│ .* folded │", line)]) == 2


@pytest.mark.slow
def test_scaling_prints_its_fit(printed: Print) -> None:
    shown = " ".join(printed("scaling", "--size", "32", "--cases", "4").split())
    assert re.search(r"wall-clock: .* ms a step of a case", shown)


@pytest.mark.slow
def test_executors_print_what_workers_gain_and_a_piece_costs(printed: Print) -> None:
    shown = printed("executors", "--network", "pixel", "--size", "32", "--cases", "4", "--steps",
                    "1", "--cells", "2", "--rounds", "1")  # fmt: skip
    assert "1 worker " in shown
    assert "2 workers" in shown
    assert re.search(r"local +-?\d+\.\d ms a piece of four cases", shown)
