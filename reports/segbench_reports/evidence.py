"""Evidence: what was measured and what not, in the order in which a quality manager asks.

Every sentence is made of a table; where nothing was measured the document says so.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from segbench.api import Tables
from segbench.atomic import write_atomically
from segbench.plugins.naming import eps_names, is_rounded
from segbench.plugins.where import where_of
from segbench_reports.certified import certified
from segbench_reports.markdown_text import escape, markdown_table
from segbench_reports.page.counted import counted
from segbench_reports.page.svg import written
from segbench_reports.page.words import NORMS

_THREATS = {
    "linf": "an adversary who may change every pixel by at most eps (L∞), of the [0, 1] range",
    "l2": "an adversary who may change the image by at most eps in the Euclidean norm (L2)",
    "l1": "an adversary who may change the image by at most eps in the sum of all pixels (L1)",
    "severity": "changes that come up by themselves (corruptions), at severities 1 to 5",
    "area": "a patch that covers a share of the image",
}
_REGIONS = {"inside": "pixels of scored structures", "outside": "pixels of the background"}
_BALLS = ("area", *NORMS)


def write(tables: Tables, directory: Path) -> Sequence[Path]:
    """Write ``evidence.md``; the same rows give the same bytes.

    Raises:
        MachineError: the disk refused.
    """
    path = directory / "evidence.md"
    write_atomically(path, render(tables).encode())
    return [path]


def render(tables: Tables) -> str:
    """The whole document."""
    sections = [
        "# Evidence of robustness testing",
        "This document claims what is measured here and no more. An attacked score is an upper "
        "bound: a stronger "
        f"attack may find a lower one. Nothing here proves {_unproved(tables)}"
        "safety or fitness for a clinical purpose.",
        "## 1 Threat model",
        *_threats(tables),
        "## 2 Data",
        *_data(tables),
        "## 3 Networks",
        *_networks(tables),
        "## 4 Attacks, and how their strength was checked",
        *_attacks(tables),
        "## 5 Results, with their uncertainty",
        *_results(tables),
        "## 6 Limits",
        *_limits(tables),
        "## 7 Software, machine and identity",
        *_identity(tables),
    ]
    return "\n\n".join(sections) + "\n"


def _unproved(tables: Tables) -> str:
    """Robustness, but for what is certified."""
    if tables.certificates.empty:
        return "robustness, "
    return (
        "robustness, but for what section 5 certifies of smoothed networks, with the probability "
        "that it states; nor "
    )


def _threats(tables: Tables) -> Iterator[str]:
    threats = _tested(tables)
    if not threats and tables.distances.empty:
        yield "None: only clean images were scored."
    for (kind, where, rounded), names in threats.items():
        then = ", each image then rounded to the levels of its file" if rounded else ""
        then += " (section 6 says whether that left eps)" if rounded and kind in NORMS else ""
        yield f"- {_THREATS[kind]}{_only(where)}{then}: {', '.join(names)}."
    for (norm, where), below in _searches(tables).items():
        yield (
            f"- an adversary who looks for the smallest change ({NORMS.get(norm, norm)})"
            f"{_only(where)}, whatever it is, that brings a case's score below "
            f"{' or '.join(below)}."
        )
    whole = {kind for kind, where, rounded in threats if not where and not rounded}
    missing = [text for kind, text in _THREATS.items() if kind not in whole]
    if missing:
        yield "Not tested: " + "; ".join(missing) + "."


def _only(where: str) -> str:
    """Which part of the image an attack was confined to."""
    if not where:
        return ""
    spec = f"where={escape(where)}"
    return f", only in {_REGIONS[where]} ({spec})" if where in _REGIONS else f", only in {spec}"


def _tested(tables: Tables) -> dict[tuple[str, str, bool], list[str]]:
    """Kind of budget, part of the image and whether images were rounded -> the budgets."""
    own = tables.cases[["budget_kind", "budget", "attack_params"]].drop_duplicates()
    own = own[own["budget_kind"].isin(_THREATS) & (own["budget"] > 0)]
    points = [*zip(own["budget_kind"].astype("str"), own["budget"].tolist(), strict=True)]
    names = eps_names(points)
    found: dict[tuple[str, str, bool], set[float]] = {}
    for (kind, budget), params in zip(points, own["attack_params"].astype("str"), strict=True):
        found.setdefault((kind, where_of(params), is_rounded(params)), set()).add(budget)
    order = [*_THREATS].index
    threats = sorted(found.items(), key=lambda one: (order(one[0][0]), one[0][1:]))
    return {key: [names[key[0], budget] for budget in sorted(own)] for key, own in threats}


def _searches(tables: Tables) -> dict[tuple[str, str], list[str]]:
    """Norm and part of the image -> the scores that minimum-norm attacks were to reach."""
    found: dict[tuple[str, str], set[float]] = {}
    for line in tables.distances.to_dict("records"):
        key = str(line["norm"]), where_of(str(line["attack_params"]))
        found.setdefault(key, set()).add(float(line["below"]))
    return {key: [f"{below:g}" for below in sorted(own)] for key, own in sorted(found.items())}


def _data(tables: Tables) -> Iterator[str]:
    lines = []
    for (dataset, split), part in tables.cases.groupby(
        ["dataset", "split"], observed=True, sort=True
    ):
        cases, groups = part["case_id"].nunique(), part["group_id"].nunique()
        sha = tables.provenance.get("datasets", {}).get(dataset, "")
        lines.append(
            [escape(str(dataset)), escape(str(split)), str(cases), str(groups), f"`{sha}`"]
        )
    yield markdown_table(["Data set", "Split", "Cases", "Groups", "SHA-256"], lines)
    yield "A group is a patient where the data say so; cases of one group are not independent."


def _networks(tables: Tables) -> Iterator[str]:
    weights = tables.provenance.get("weights", {})
    yield markdown_table(
        ["Network", "Weights, SHA-256"],
        [[escape(str(name)), f"`{sha}`"] for name, sha in sorted(weights.items())],
    )
    trained = tables.provenance.get("trainings", {})
    if trained:
        yield "How they were trained:"
        yield "\n".join(f"- {escape(name)}: {escape(how)}" for name, how in trained.items())


def _attacks(tables: Tables) -> Iterator[str]:
    for label, parameters in sorted(tables.attacks.items()):
        settings = ", ".join(f"{key} = {value}" for key, value in sorted(parameters.items()))
        yield f"- {escape(label)}: {escape(settings) or 'no parameters'}."
    searched = tables.summary[tables.summary["budget_kind"] != "certified"]
    marked = searched[searched["marks"].str.contains("stuck", regex=False)]
    yield (
        f"{_checked(tables)}The stored scores were "
        "searched for signs of an attack that was stuck: scores that rise with the budget, "
        "gradients that are zero everywhere, a search whose last half gained nothing, a network "
        f"that is far ahead under one attack alone. {len(marked)} of {len(searched)} curves bear "
        "such a sign."
    )
    diagnosed = [*tables.findings, *tables.examined]
    if diagnosed:
        yield "Checks for gradient masking (`segbench diagnose`):"
        yield "\n".join(f"- {escape(note)}" for note in diagnosed)
    else:
        yield "No network was examined for gradient masking (`segbench diagnose`)."


def _checked(tables: Tables) -> str:
    """Of which images it was checked that they lie where they may, and of which not."""
    searches = {str(attack) for attack in tables.distances.get("attack", ())}
    own = tables.cases[["attack", "attack_params", "budget_kind"]].drop_duplicates()
    own = own[~own["attack"].isin(searches)]
    kinds = own["budget_kind"].astype("str")
    rounded = own["attack_params"].astype("str").map(is_rounded).astype(bool)
    said = ""
    if (kinds.isin(_BALLS) & ~rounded).any():
        said += (
            "Every adversarial image with a budget of a norm or an area was checked, in double "
            "precision, to lie within its budget, and to be the clean image where it may not "
            "change. "
        )
    if searches:
        said += (
            "An image of least change has no budget: its distance was measured, and counts at "
            "every eps that is no smaller. "
        )
    if (kinds == "severity").any():
        said += "A severity is no ball: of such images only the range of pixels was checked. "
    if rounded.any():
        said += (
            "Images that were rounded to the levels of their files were measured afterwards, and "
            "section 6 names those outside their budget. "
        )
    return said


def _results(tables: Tables) -> Iterator[str]:
    lines = []
    for line in tables.headlines.sort_values(["dataset", "split", "of", "model"]).to_dict(
        "records"
    ):
        value = f"{line['value']:.3f}"
        if not math.isnan(line["low"]):
            value += f" [{line['low']:.3f}, {line['high']:.3f}]"
        marks = " ".join(filter(None, (line["marks"], line["doubt"])))
        names = [escape(str(line[name])) for name in ("dataset", "split", "model", "of", "attack")]
        lines.append([*names, value, f"{line['cases']} / {line['groups']}", marks])
    heads = [
        "Data set",
        "Split",
        "Network",
        "Against",
        "By",
        "Mean Jaccard",
        "Cases / groups",
        "Mark",
    ]
    yield markdown_table(heads, lines)
    yield (
        "*clean*: the mean over cases. A norm: the mean height of the lowest curve known, from "
        "no change to the "
        "largest eps. *severity*: the mean of each case's lowest score. In brackets the 95 % "
        "interval over groups. Each is of whatever that network met; where two did not meet the "
        "same, section 6 says so, and their numbers here are no comparison."
    )
    yield from _points(tables)
    for proved in certified(tables):
        yield f"**{proved.title}.** {proved.meaning}"
        yield markdown_table(proved.heads, [[*map(escape, line)] for line in proved.lines])
    if tables.comparisons.empty:
        yield "Networks were not compared: there is one, or they share no case."
        return
    main = tables.comparisons[tables.comparisons["main"]]
    tested = main[main["p_holm"].notna()]
    told = int((tested["p_holm"] <= 0.05).sum())
    if len(tested):
        yield (
            f"Of {len(tested)} paired comparisons {told} differ by more than chance at 5 %, "
            "corrected by Holm for all of a data set."
        )
    if len(tested) < len(main):
        yield (
            f"{len(main) - len(tested)} of {len(main)} paired comparisons are not tested: no two "
            "groups, such as patients, have both networks' scores."
        )


def _points(tables: Tables) -> Iterator[str]:
    """What is left of each network at every budget of a norm, by the lowest curve known."""
    pairs = tables.summary[["dataset", "split"]].drop_duplicates().sort_values(["dataset", "split"])
    for dataset, split in pairs.itertuples(index=False, name=None):
        for kind, norm in NORMS.items():
            curves = counted(tables, dataset, split, kind)
            names = {value.budget: value.name for own in curves.values() for value in own}
            if not names:
                continue
            yield (
                f"Mean Jaccard on {escape(dataset)}, {escape(split)} split, at each eps ({norm}), "
                "each case by the attack that left least of it there or at a smaller eps:"
            )
            lines = []
            for model, own in curves.items():
                cells = {value.budget: written(value) for value in own}
                lines.append([escape(model), *(cells.get(at, "–") for at in sorted(names))])
            yield markdown_table(["Network", *(names[at] for at in sorted(names))], lines)


def _limits(tables: Tables) -> Iterator[str]:
    if tables.warnings:
        yield "\n".join(f"- {escape(warning)}" for warning in tables.warnings)
    else:
        yield "No sign was found that speaks against a number."
    yield (
        "The interval is over the cases of this split; it says nothing of other hospitals, "
        "devices or trainings"
        + (
            " (several seeds were trained, see the report)."
            if len(tables.seeds)
            else ", of which one is shown."
        )
    )


def _identity(tables: Tables) -> Iterator[str]:
    facts = [
        (
            "Versions",
            [f"{k} {' and '.join(v)}" for k, v in tables.provenance.get("versions", {}).items()],
        ),
        ("Devices", tables.provenance.get("devices", [])),
        ("Precision of gradients", tables.provenance.get("precisions", [])),
        ("Git commits", tables.provenance.get("git_commits", [])),
        ("Runs", tables.provenance.get("runs", [])),
    ]
    yield "\n".join(
        f"- {name}: {escape(', '.join(values)) if values else 'not recorded'}"
        for name, values in facts
    )
