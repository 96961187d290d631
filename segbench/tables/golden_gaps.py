"""What a golden file and its cases do not say, though those of today's segbench do, in sentences.

Each is of scores that pass although something about them is not known, or is not as it was then.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping

from pandas import DataFrame

from segbench.plugins.naming import CLEAN
from segbench.tables import certified
from segbench.tables.golden import MARKS, UNKNOWN, row_key
from segbench.tables.golden_cases import Key, Scores
from segbench.tables.texts import few

_UPDATE = "`segbench check --update` writes"
_SAME = "other data under the same names pass for the same"


def describe_gaps(golden: DataFrame, then: Mapping[Key, Scores] | None) -> Iterator[str]:
    """What no score of a golden file can fail for, as nobody wrote it down, and of how many.

    Args:
        golden: from ``read_golden``.
        then: its scores by case, None where there are none.
    """
    if (golden[MARKS] == UNKNOWN).any():
        yield (
            "the golden file does not say which of its scores were marked as not to be trusted, so "
            f"that no score fails for being so today; {_UPDATE} one that does"
        )
    if not then:
        yield (
            "no cases lie beside the golden file, so that means alone are compared, and "
            f"{_SAME}; {_UPDATE} them"
        )
        return
    if lacking := len(golden) - by_case(golden, then):
        yield (
            f"the cases beside the golden file lack {lacking} of its {len(golden)} scores, so that "
            f"of these the means alone are compared, and {_SAME}; {_UPDATE} them"
        )
    yield from describe_nameless(then)


def by_case(golden: DataFrame, then: Mapping[Key, Scores]) -> int:
    """How many scores of a golden file its cases have."""
    return sum(row_key(row) in then for row in golden.to_dict("records"))


def describe_nameless(then: Mapping[Key, Scores]) -> Iterator[str]:
    """Of how many scores there are cases that are known by no content."""
    nameless = sum(not all(point.contents) for point in then.values())
    if nameless:
        what = "" if nameless == len(then) else f", of {nameless} of {len(then)} scores,"
        yield (
            f"the golden file's cases{what} are known by name alone, so that {_SAME}; {_UPDATE} "
            "their contents too"
        )


def describe_attacks(now: Mapping[Key, Scores], then: Mapping[Key, Scores]) -> Iterator[str]:
    """What of the attacks behind scores is not what it was then, and of which that is not known.

    Args:
        now: today's scores by case.
        then: the golden file's.
    """
    yield from _describe_seeds(now, then)
    yield from _describe_code(now, then)


def _describe_code(now: Mapping[Key, Scores], then: Mapping[Key, Scores]) -> Iterator[str]:
    """Which scores are of an attack whose code is another than then, or is not known.

    Clean scores and certificates are of none.
    """
    attacked = (key for key in then if key in now and key[3] != CLEAN and key[4] != certified.KIND)
    pairs = {key: (now[key].code, then[key].code) for key in attacked}
    others = {key for key, pair in pairs.items() if all(pair) and pair[0] != pair[1]}
    if others:
        which = few(sorted({key[3] for key in others}))
        yield (
            f"{len(others)} of {len(pairs)} attacked scores are of attacks whose code, libraries "
            f"or, of a transfer, source network are others than then ({which}), so that a rise or "
            "a fall may be theirs and not the network's; attack with the same, or write the file "
            "anew with `segbench check --update`"
        )
    if unknown := sum(not all(pair) for pair in pairs.values()):
        yield (
            f"of {unknown} of {len(pairs)} attacked scores the attack's code is not known, now or "
            f"then, so that a weakened attack passes for the same; {_UPDATE} it, of attacks that "
            "this version of segbench computed"
        )


def _describe_seeds(now: Mapping[Key, Scores], then: Mapping[Key, Scores]) -> Iterator[str]:
    """Which scores are means over other attack seeds than then, and of which that is not known."""
    pairs = [(now[key].seeds, then[key].seeds) for key in then if key in now]
    others = Counter(pair for pair in pairs if all(pair) and pair[0] != pair[1])
    for own, count in others.items():
        today, before = (", ".join(map(str, seeds)) for seeds in own)
        yield (
            f"{count} of {len(pairs)} scores are means over other attack seeds than then: over "
            f"{today} now, over {before} in the golden file, so that a rise or a fall may be "
            "theirs; attack with the same seeds, or write the file anew with `segbench check "
            "--update`"
        )
    if unknown := sum(not before for _, before in pairs):
        yield (
            f"the golden file does not say over which attack seeds {unknown} of {len(pairs)} "
            f"scores are means, so that other seeds pass for the same; {_UPDATE} them"
        )
