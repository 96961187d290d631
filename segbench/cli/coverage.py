"""segbench coverage: how often intervals hold the truth and the gate is wrong, by simulation."""

from __future__ import annotations

import math

import click

from segbench.cli.options import at_least

_HEADS = (
    "scores",
    "groups of",
    "groups",
    "used",
    "unmarked",
    "marked",
    "missed",
    "unseen",
    "t",
    "boot",
)
_EXPLAINED = """\
Share of samples whose 95 % interval holds the true mean, in per cent.
used      the interval of reports: t of the jackknife, on the logit scale
unmarked  the same, of intervals that bear no mark (few-groups, thin-tail,
          unseen-tail)
marked    intervals that bear one
missed    intervals that bear none and do not hold the truth
unseen    samples in which the rare cases are missing altogether: of them no interval can know
t, boot   beside it: mean ± t standard errors, and the percentile bootstrap"""


@click.command("coverage")
@click.option(
    "--trials", type=at_least(10), default=2000, show_default=True, help="Samples per line."
)
def command(trials: int) -> None:
    """Count how often the intervals of reports hold the truth, on scores of known distributions.

    \b
    segbench coverage
    segbench coverage --trials 500
    """
    from segbench.cli.terminal import say
    from segbench.metrics.coverage import FALLING, GROUPS, simulate_all, simulate_quantile
    from segbench.tables.gate_power import CASES, FALLEN, SINGLE, SPREADS, simulate_gate

    say(_EXPLAINED)
    say("")
    say(_line(*_HEADS))
    for found in simulate_all(trials):
        shares = (found.used, found.unmarked, found.marked, found.missed, found.unseen)
        beside = (found.t, found.percentile)
        say(_line(found.shape, found.sizes, str(found.groups), *map(_percent, (*shares, *beside))))
    say("")
    say("How often the gate closes, tolerance 0.01, in per cent: by case, and by the mean alone.")
    say(_line("file of", "cases", "fallen", "by case", "plain"))
    for name, spreads in (("14 scores", SPREADS), ("one score", SINGLE)):
        for cases in CASES:
            for fallen in FALLEN:
                power = simulate_gate(cases, fallen, max(10, trials // 4), spreads)
                closed = (_percent(power.paired), _percent(power.plain))
                say(_line(name, str(cases), f"{fallen:g}", *closed))
    say("")
    say(
        "Quantiles of distances: the same of the interval between order statistics, where all cases"
    )
    say("fall, and where only 5 % more than the quantile needs ever do; alike: groups of forty")
    say("cases that fall at one distance or never, but for 5 %, which fall each by itself.")
    say(_line("quantile", "groups of", "groups", "all fall", "few more"))
    for level, name in ((0.25, "lower quartile"), (0.5, "median"), (0.75, "upper quartile")):
        for sizes in FALLING:
            for groups in GROUPS:
                held = (
                    simulate_quantile(level, sizes, groups, max(10, trials // 4), falling=falling)
                    for falling in (1.0, level + 0.05)
                )
                say(_line(name, sizes, str(groups), *map(_percent, held)))


def _line(shape: str, sizes: str, *cells: str) -> str:
    return f"{shape:<14}  {sizes:<9}" + "".join(f"{cell:>9}" for cell in cells)


def _percent(share: float) -> str:
    return "–" if math.isnan(share) else f"{100 * share:.1f}"
