"""What is proved of smoothed networks, as tables that all formats share."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from typing import Any

from segbench.api import Tables
from segbench_reports.suites import Comparison

_ALL = "all"  # the lines that are of the mean over classes
_MEANT = (
    "A lower bound of Jaccard under every change of the image up to the L2 radius, in [0, 1] "
    "units, of the smoothed network: it holds with probability 1 - alpha for every case and line, "
    "for all N cases of a mean at once with 1 - N alpha at least. "
    "Smoothed is its score on the clean image, where it abstains from some pixels. Attacked is an "
    "upper bound, and of another network: the one that was smoothed, as it is. The mean over cases "
    "with its 95 % interval over groups."
)
_BY_STRUCTURE = (
    "The same for each structure. Abstained is the share of its own pixels of which nothing is "
    "certified; coarse the share of the case that is certified as a coarser class alone."
)
_WHO = ("dataset", "split", "model", "certificate")
_HEADS = ("Data set", "Split", "Model", "Certificate")


def certified(tables: Tables) -> Iterator[Comparison]:
    """Those that there are: a line per certificate and radius, then one per structure."""
    if tables.certificates.empty:
        return
    whole = tables.certificates["class_name"] == _ALL
    heads = ["Tau", "Radius", "Certified", "Smoothed", "Attacked", "Abstained", "Coarse"]
    settings = ["Alpha", "Draws", "Cases / groups"]
    lines = [_line(line) for line in tables.certificates[whole].to_dict("records")]
    yield Comparison("Certificates", _MEANT, [*_HEADS, *heads, *settings], lines)
    heads = ["Tau", "Radius", "Structure", "Certified", "Smoothed", "Abstained", "Coarse", "Cases"]
    lines = [_structure(line) for line in tables.certificates[~whole].to_dict("records")]
    yield Comparison("Certificates by structure", _BY_STRUCTURE, [*_HEADS, *heads], lines)


def _line(line: Mapping[Any, Any]) -> list[str]:
    return [
        *_who(line),
        _interval(line, "jaccard"),
        _interval(line, "smoothed_jaccard"),
        _attacked(line),
        f"{line['abstained']:.1%}",
        f"{line['coarse']:.1%}",
        f"{line['alpha']:g}",
        f"{line['n0']} + {line['n']}, {line['correction']}",
        f"{line['cases']:.0f} / {line['groups']:.0f}",
    ]


def _structure(line: Mapping[Any, Any]) -> list[str]:
    numbers = [_number(line[name]) for name in ("jaccard", "smoothed_jaccard")]
    shares = [f"{line[name]:.1%}" for name in ("abstained_inside", "coarse")]
    return [*_who(line), str(line["class_name"]), *numbers, *shares, f"{line['cases']:.0f}"]


def _who(line: Mapping[Any, Any]) -> list[str]:
    return [*(str(line[name]) for name in _WHO), f"{line['tau']:g}", f"{line['radius']:.4f}"]


def _attacked(line: Mapping[Any, Any]) -> str:
    """What attacks have left, and of how many cases, where not of all."""
    few = line["attacked_cases"] < line["cases"]
    of = f" ({line['attacked_cases']:.0f} cases)" if few and line["attacked_cases"] else ""
    return _number(line["attacked"]) + of


def _interval(line: Mapping[Any, Any], name: str) -> str:
    if math.isnan(line[f"{name}_low"]):
        return _number(line[name])
    return f"{line[name]:.3f} [{line[f'{name}_low']:.3f}, {line[f'{name}_high']:.3f}]"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.3f}"
