"""Gradient-masking checks for dense output: from what was measured to a verdict and a sentence.

Carlini et al. (2019, arXiv 1902.06705), Pintor et al. (NeurIPS 2022, arXiv 2106.09947). None of
them proves robustness; each can show that an attacked score says more of the attack than of the
network. Scores are the case's Jaccard, compared on the same cases; means and intervals over groups
are those of ``stats.py``.

The thresholds, and why these:

- ``SCORE``, 0.02 of Jaccard, for two attacks on the same cases. Another random start, or gradients
  in bf16 instead of fp32, moves the mean of eight cases by up to 0.007; a masked network shows
  0.1 and more.
- ``STEPS``, 0.1 for twice the steps: PGD-40 is never quite converged (doubling takes another 0.01
  to 0.04 from honest U-Nets at 4/255), while one stopped on its way loses far more.
- ``CHANCE``, 0.05 above the score of the true labels at random places. A budget of the whole pixel
  range allows any image at all, so nothing but the attack's own failure keeps the score above it.
- A comparison *fails* where even the low end of the 95 % interval of its difference is beyond the
  threshold, and is *suspicious* where only the mean is. With one group there is no interval, and
  no failure. Where it is cross-entropy alone that does not pass, and nothing beats the standard
  suite, it is a weak loss (``weak_loss.py``).
- ``ZERO_GRADIENTS``: a pixel reaches many outputs through many channels, so its gradient is never
  exactly zero but in dead corners: suspicious from a tenth of the pixels, failed from half.
- ``SATURATED``: beyond a margin of 87 between the two largest logits, softmax is a one-hot vector
  in fp32 and the gradient of cross-entropy exactly zero. Trained networks end at 1 to 20.
  Suspicious from a hundredth of the pixels, failed from a tenth, by which a score may then be off.
- ``ROUTES``: hand-written kinks show up to 0.05, a network that votes by what is largest, or puts
  values back where maxima were, 0.9 and more. From a tenth on its rows are marked.
- ``DIFFERENCES``: 0.00 to 0.07 of honest networks and trained U-Nets, 0.9 and more of whatever
  hides its gradient: a ripple, a gradient that leads back, rounding.
- ``LATE_RISE``: a loss that rises evenly gains a quarter of its rise in the last quarter of the
  steps, a converged one next to nothing: suspicious from a quarter. Where three quarters come as
  late, or nothing rises at all, which counts as 1, the check fails.
- ``SEARCHED``: of hardly a case of an honest network does the standard suite's search find more
  than its climbs; suspicious from a quarter of the cases, failed from half.
- Two identical forwards must agree to the last bit, unless the network declares its draws.
- ``HIDDEN``, 0.05 for what the standard suite leaves beyond any other attack here, and beyond
  itself and as many gradients again, by two more climbs from other starts: no more than that may
  still be hidden where a network is called honest. Reports tell of the same gap between attacks.
"""

from __future__ import annotations

import math

from segbench.engine.differences import UNFORETOLD
from segbench.engine.routing import UNSEEN
from segbench.metrics.stats import Interval
from segbench.store.diagnoses import TRANSFER, VERDICTS, Check, Verdict

SCORE = 0.02
STEPS = 0.1
CHANCE = 0.05
HIDDEN = 0.05
ZERO_GRADIENTS = (0.1, 0.5)
SATURATED = (0.01, 0.1)
ROUTES = (UNSEEN, 0.3)
DIFFERENCES = (UNFORETOLD, 0.6)
SATURATED_MARGIN = 87.0  # exp(-87) is the last normal number of fp32
LATE_RISE = (0.25, 0.75)
SEARCHED = (0.25, 0.5)

_BEYOND: tuple[Verdict, ...] = ("pass", "suspicious", "fail")  # no limit, one, both


def check_random(change: float, samples: int) -> Check:
    """Largest change of a logit between two identical forwards, as a share of the largest logit."""
    if samples > 1:
        means = f"It draws on purpose and declares it; gradients are means over {samples} draws."
    elif change:
        means = (
            "Two identical forwards differ, so every gradient is a noisy one; declare eot_samples, "
            "and attacks average over draws."
        )
    else:
        means = "Two identical forwards agree to the last bit."
    verdict: Verdict = "fail" if change and samples == 1 else "pass"
    return _check("two identical forwards", verdict, change, 0.0, means)


def check_saturated(share: float) -> Check:
    """Share of valid pixels whose softmax is one-hot in fp32."""
    return _graded(
        "saturated logits",
        share,
        SATURATED,
        "The logits are in a range where cross-entropy has a gradient.",
        "At this share of pixels the gradient of cross-entropy is exactly zero in fp32, so attacks "
        "do not see them; scale the logits down, or attack with loss=margin too.",
    )


def check_routes(share: float) -> Check:
    """Share of what the answer to a moved image changes by that no gradient sees."""
    return _graded(
        "routes without a gradient",
        share,
        ROUTES,
        "What the image decides without a gradient changes next to nothing of the answer.",
        "This share of what the answer changes by goes through values that the image decides and "
        "no gradient sees (places of maxima, comparisons, ranks, detached copies), so attacks by "
        "gradients see the rest alone; give such a layer a stand_in.",
    )


def check_differences(share: float) -> Check:
    """Share of what the answer to a moved image changes by that the gradient does not foretell."""
    return _graded(
        "gradients against finite differences",
        share,
        DIFFERENCES,
        "The answer to a slightly moved image is what the gradient foretells.",
        "This share of what the answer to a slightly moved image changes by is not what the "
        "gradient foretells, so attacks that follow it are led astray.",
    )


def check_zero_gradients(share: float) -> Check:
    """Share of pixels whose gradient is exactly zero."""
    return _graded(
        "exactly zero gradients",
        share,
        ZERO_GRADIENTS,
        "The gradient reaches the image.",
        "The gradient does not reach this share of pixels, so attacks cannot move them; a layer "
        "that rounds or detaches may bring a stand_in, and saturated logits be scaled down.",
    )


def check_single_step(difference: Interval) -> Check:
    """Jaccard under the iterative attack minus that under a single step."""
    return _compared(
        "many steps against one",
        difference,
        SCORE,
        "Many steps are at least as strong as a single one.",
        "A single step hurts more than many, so small steps are led astray by the gradient.",
    )


def check_noise(difference: Interval) -> Check:
    """Jaccard under the iterative attack minus that under random noise."""
    return _compared(
        "gradients against noise",
        difference,
        SCORE,
        "Following the gradient is at least as strong as random noise.",
        "Random noise of the same size hurts more than following the gradient, so the gradient "
        "says nothing.",
    )


def report_unaware(unaware: float, aware: float) -> Check:
    """Mean Jaccard under an attack that knows nothing of the front, and under one that does."""
    return Check(
        name="an attack that does not know of the front",
        verdict="pass",
        number=unaware - aware,
        threshold=1.0,
        meaning=f"It would have reported a mean Jaccard of {unaware:.3f}; around the front "
        f"{aware:.3f} is left.",
    )


def check_black_box(difference: Interval, attack: str) -> Check:
    """Jaccard under the iterative attack minus that under a black-box attack."""
    return _compared(
        "gradients against black box",
        difference,
        SCORE,
        f"Following the gradient is at least as strong as {attack}, which sees only answers.",
        f"{attack}, which sees only answers, hurts more than following the gradient.",
    )


def check_transfer(difference: Interval, source: str) -> Check:
    """Jaccard under the iterative attack minus that under images made against another network."""
    return _compared(
        TRANSFER,
        difference,
        SCORE,
        f"Its own gradient is at least as strong as that of {source}.",
        f"Images made against {source} hurt more than following its own gradient.",
    )


def check_growth(differences: list[Interval]) -> Check:
    """Jaccard at each eps minus that at the eps before; the worst of them counts."""
    return _compared(
        "damage grows with eps",
        max(differences, key=lambda difference: difference.mean),
        SCORE,
        "A larger budget never hurts less.",
        "A larger budget hurts less than a smaller one inside it, so the attack loses its way.",
    )


def check_huge(difference: Interval) -> Check:
    """Jaccard at an eps of the whole pixel range minus that of labels at random places."""
    return _compared(
        "a huge eps reaches chance",
        difference,
        CHANCE,
        "A budget of the whole pixel range brings the score down to chance.",
        "Allowed any image at all, the attack does not reach chance, so it is the attack that "
        "fails and not its budget.",
    )


def check_steps(difference: Interval) -> Check:
    """Jaccard under the iterative attack minus that with twice the steps."""
    return _compared(
        "twice the steps",
        difference,
        STEPS,
        "Twice the steps change little.",
        "Twice the steps hurt clearly more, so scores at the usual number are too high.",
    )


def check_late_rise(share: float) -> Check:
    """Share of the loss's rise that came in the last quarter of the steps; 1 where none came."""
    return _graded(
        "loss still rising at the end",
        share,
        LATE_RISE,
        "The loss has levelled off by the end of the attack.",
        "The loss rises as fast at the end as before, or not at all: the attack is stuck, or needs "
        "more steps.",
    )


def check_standard(difference: Interval, rival: str) -> Check:
    """Jaccard under the standard suite minus that under the strongest other attack."""
    return _compared(
        "standard against all others",
        difference,
        HIDDEN,
        "Nothing that was tried here leaves less than the standard suite.",
        f"{rival} leaves less than the standard suite, which therefore misses something: report "
        "the worst of both, and look for what hides the gradient.",
    )


def check_search(share: float) -> Check:
    """Share of cases of which the standard suite's search without gradients found the worst."""
    return _graded(
        "standard's climbs against its search",
        share,
        SEARCHED,
        "Gradients led the standard suite to what it found.",
        "Of this share of cases a search without gradients found the worst image, so gradients "
        "lead astray and more may be hidden: attack with square and as many queries as there is "
        "time for.",
    )


def check_twice_the_cost(difference: Interval) -> Check:
    """Jaccard under the standard suite minus that once as many gradients again were spent."""
    return _compared(
        "standard at twice the cost",
        difference,
        HIDDEN,
        "As many gradients again find hardly more than the standard suite.",
        "As many gradients again find clearly more, so the standard suite's number is too high: "
        "attack with standard:cost=thorough.",
    )


def named_after(check: Check, loss: str) -> Check:
    """The same check, of another loss than the first; "" leaves it as it is."""
    return check.model_copy(update={"name": f"{check.name} ({loss})"}) if loss else check


def overall(checks: list[Check]) -> Verdict:
    """The worst verdict."""
    return max((check.verdict for check in checks), key=VERDICTS.index)


def _graded(
    name: str, number: float, limits: tuple[float, float], passes: str, fails: str
) -> Check:
    """Suspicious from the first limit, failed from the second."""
    verdict = _BEYOND[sum(number >= limit for limit in limits)]
    return _check(name, verdict, number, limits[0], passes if verdict == "pass" else fails)


def _compared(name: str, difference: Interval, limit: float, passes: str, fails: str) -> Check:
    """Suspicious where the mean is beyond the limit, failed where its whole interval is."""
    beyond = [difference.mean > limit, not math.isnan(difference.low) and difference.low > limit]
    verdict = _BEYOND[sum(beyond)]
    return _check(name, verdict, difference.mean, limit, passes if verdict == "pass" else fails)


def _check(name: str, verdict: Verdict, number: float, threshold: float, meaning: str) -> Check:
    return Check(
        name=name, verdict=verdict, number=float(number), threshold=threshold, meaning=meaning
    )
