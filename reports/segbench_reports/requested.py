"""What was measured on request, as tables that all formats share: boundaries, and lesions."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from segbench.api import Tables
from segbench_reports.suites import WHOSE, Comparison, whose

_MEANT = "Each the mean over cases with its 95 % interval over groups; the notes define it."
_TITLES = {
    "Boundaries": {"nsd": "NSD", "hd95": "HD95"},
    "Lesions": {
        "lesion_sensitivity": "Sensitivity",
        "lesions_false": "False a case",
        "lesion_f1": "F1",
    },
}
_POINT = [
    "dataset", "split", "model", "budget_kind", "attack", "attack_params", "budget", "eps",
]  # fmt: skip


def requested(tables: Tables) -> Iterator[Comparison]:
    """Those that there are, a line per point of every curve."""
    for title, metrics in _TITLES.items():
        own = tables.curves[tables.curves["metric"].isin(metrics)]
        if own.empty:
            continue
        lines = []
        for key, part in own.groupby(_POINT, sort=True):
            found = {str(line["metric"]): line for line in part.to_dict("records")}
            point = dict(zip(_POINT, key, strict=True))
            eps = "clean" if point["eps"] == "0" else point["eps"]
            names = [*whose(point), str(point["attack"]), str(eps)]
            cells = [_cell(found.get(metric)) for metric in metrics]
            lines.append([*names, *cells, _cases(found, metrics)])
        heads = [*WHOSE, "Attack", "Eps", *metrics.values(), "Cases / groups"]
        yield Comparison(title, _MEANT, heads, lines)


def _cases(found: Mapping[str, Mapping[Any, Any]], metrics: Mapping[str, str]) -> str:
    """``9 / 5``; of each metric by itself where they differ."""
    counts = {metrics[m]: f"{line['cases']} / {line['groups']}" for m, line in found.items()}
    if len(set(counts.values())) == 1:
        return next(iter(counts.values()))
    return ", ".join(f"{name} {counts[name]}" for name in metrics.values() if name in counts)


def _cell(line: Mapping[Any, Any] | None) -> str:
    """``0.887 [0.879, 0.895]``; a dash where no case has a value."""
    if line is None:
        return "-"
    if line["low"] != line["low"]:
        return f"{line['mean']:.3f}"
    return f"{line['mean']:.3f} [{line['low']:.3f}, {line['high']:.3f}]"
