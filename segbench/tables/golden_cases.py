"""The golden file's cases: what the gate pairs today's scores with, compact and readable in a diff.

Beside ``golden.csv`` lies ``golden.cases.jsonl``: a line for each data set with its cases and their
groups and contents, then a line for each point and metric with the scores of these cases in that
order, rounded to four decimals. A changed score changes one line; ``null`` stands for a case that
has none. A content is the start of the SHA-256 that rows know a case by, ``seeds`` are those of the
attack that a score is the mean over, and ``code`` the start of the SHA-256 of what it does; older
files do not hold them all.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from pandas import DataFrame

from segbench.api import Tables, plain
from segbench.atomic import read_regular, write_atomically
from segbench.errors import MachineError, UserError
from segbench.plugins.naming import attack_spec
from segbench.tables.minnorm import KIND
from segbench.tables.texts import by_key, distinct

METRICS = ("jaccard", "dice")
_DECIMALS = 4
_DIGITS = 16  # hexadecimal, of a content and of an attack's code
Key = tuple[str, str, str, str, str, float, str]  # golden.KEY


@dataclass(frozen=True, eq=False)
class Scores:
    """One point's scores of one metric: ``values`` (N,) of the cases ``case_ids`` and groups.

    And their ``contents``, empty where nobody noted them, and the attack's ``seeds`` and ``code``,
    each in ascending order, none where they are not known.
    """

    case_ids: tuple[str, ...]
    groups: tuple[str, ...]
    values: NDArray[np.float64]
    contents: tuple[str, ...]
    seeds: tuple[int, ...] = ()
    code: tuple[str, ...] = ()


def rounded(values: ArrayLike) -> NDArray[np.float64]:
    """Scores as a case file has them."""
    return np.asarray(values, np.float64).round(_DECIMALS)


def case_file(golden: Path) -> Path:
    """``golden.csv`` to ``golden.cases.jsonl``."""
    return golden.with_name(f"{golden.stem}.cases.jsonl")


def scores_by_case(tables: Tables) -> dict[Key, Scores]:
    """Every gated point of the tables that has a score, with its cases in order of their names."""
    cases = tables.cases.assign(
        attack=by_key(tables.cases, ["attack", "attack_params"], attack_spec)
    )
    keys = ["model", "dataset", "split", "attack", "budget_kind", "budget"]
    cases = cases.sort_values([*keys, "case_id"], kind="stable")
    number = cases.groupby(keys, sort=True, observed=True).ngroup().to_numpy(np.int64)
    starts = np.unique(number, return_index=True)[1]
    stops = [*starts[1:].tolist(), len(cases)]
    names, groups = ([*cases[name].astype("str")] for name in ("case_id", "group_id"))
    values = {metric: cases[metric].to_numpy(np.float64) for metric in METRICS}
    lines = cases[keys].iloc[starts].astype(dict.fromkeys(keys[:-1], "str"))
    subjects = cases[["network_sha256", "dataset_fingerprint"]].iloc[starts].astype("str")
    contents, attacks = _contents(tables.rows), _attacks(tables.rows)
    found: dict[Key, Scores] = {}
    for key, subject, start, stop in zip(
        lines.itertuples(index=False, name=None),
        subjects.itertuples(index=False, name=None),
        starts.tolist(),
        stops,
        strict=True,
    ):
        own, (_, version), split = names[start:stop], subject, key[2]
        point = *subject, *key[2:4]
        seeds, code = attacks.get((*point, *key[4:]), attacks.get((*point, KIND), (set(), set())))
        there = tuple(contents.get((version, split, name), "") for name in own)
        texts: Any = [plain(text) for text in key[:-1]]
        for metric in METRICS:
            scores = values[metric][start:stop]
            if np.isnan(scores).all():
                continue
            found[(*texts, float(key[-1]), metric)] = Scores(
                tuple(own),
                tuple(groups[start:stop]),
                scores,
                there,
                tuple(sorted(seeds)),
                tuple(sorted(code)),
            )
    return found


def _contents(rows: DataFrame) -> dict[tuple[str, str, str], str]:
    """The content of every case, by data set, split and name."""
    keys = ["dataset_fingerprint", "split", "case_id", "case_sha256"]
    return {tuple(own): content[:_DIGITS] for *own, content in distinct(rows, keys)}


def _attacks(rows: DataFrame) -> dict[tuple[Any, ...], tuple[set[int], set[str]]]:
    """The attack's seeds and code of every point; of a minimum-norm attack, of its kind.

    Of what an older segbench stored the code is not known.
    """
    keys = ["network_sha256", "dataset_fingerprint", "split", "attack", "attack_params"]
    found: dict[tuple[Any, ...], tuple[set[int], set[str]]] = {}
    for line in distinct(rows, [*keys, "budget_kind", "budget", "seed", "attack_sha256"]):
        *subject, attack, params, kind, budget, seed, code = line
        at = (kind,) if kind == KIND else (kind, budget)
        key = (*subject, attack_spec(attack, params), *at)
        seeds, codes = found.setdefault(key, (set(), set()))
        seeds.add(int(seed))
        codes |= {str(code)[:_DIGITS]} - {""}
    return found


def write_cases(path: Path, scores: Mapping[Key, Scores]) -> None:
    """Write the case file, sorted and rounded.

    Raises:
        MachineError: the disk refused.
    """
    data: dict[tuple[str, str], dict[str, tuple[str, str]]] = {}
    for (_, dataset, split, *_), point in scores.items():
        facts = zip(point.groups, point.contents, strict=True)
        data.setdefault((dataset, split), {}).update(zip(point.case_ids, facts, strict=True))
    lines: list[dict[str, Any]] = []
    for (dataset, split), of_case in sorted(data.items()):
        cases = [(name, *facts) for name, facts in sorted(of_case.items())]
        lines.append({"dataset": dataset, "split": split, "cases": cases})
        own = [key for key in scores if key[1:3] == (dataset, split)]
        lines += [_line(key, scores[key], [name for name, *_ in cases]) for key in sorted(own)]
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines)
    write_atomically(path, text.encode())


def read_cases(path: Path) -> dict[Key, Scores] | None:
    """The scores of a case file; None where there is none.

    Raises:
        UserError: it is not such a file, or says one thing twice.
        MachineError: it may not be read.
    """
    try:
        lines = read_regular(path).decode().splitlines()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise MachineError(f"cannot read {path}: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not a golden file's cases ({error.reason})") from None
    found: dict[Key, Scores] = {}
    cases: list[tuple[str, str, str]] = []
    for number, text in enumerate(lines, 1):
        try:
            line = json.loads(text)
            if "cases" in line:
                cases = [_case(*case) for case in line["cases"]]
                where = str(line["dataset"]), str(line["split"])
                if len({name for name, *_ in cases}) < len(cases):
                    raise ValueError("a case is named twice")
                continue
            kind, budget = line["budget"]
            key = (str(line["model"]), *where, str(line["attack"]), str(kind), float(budget))
            seeds = tuple(sorted(int(seed) for seed in _list(line.get("seeds", []))))
            code = tuple(sorted(_text(own) for own in _list(line.get("code", []))))
            point = (*key, str(line["metric"]))
            if point in found:
                raise ValueError("the same scores are there twice; keep one")
            found[point] = _scores(line["values"], cases, seeds, code)
        except (ValueError, KeyError, TypeError, UnboundLocalError, OverflowError,
                RecursionError) as error:  # fmt: skip
            raise UserError(
                f"line {number} of {path} is not one of a golden file's cases ({error}); "
                "`segbench check --update` writes it anew"
            ) from None
    return found


def _line(key: Key, scores: Scores, names: list[str]) -> dict[str, Any]:
    by_name = dict(zip(scores.case_ids, scores.values.tolist(), strict=True))
    values = [by_name.get(name, math.nan) for name in names]
    return {
        "model": key[0],
        "attack": key[3],
        "budget": [key[4], key[5]],
        "metric": key[6],
        "seeds": scores.seeds,
        "code": scores.code,
        "values": [None if math.isnan(value) else value for value in rounded(values).tolist()],
    }


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError(f"{value!r} is no list")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value!r} is no text")
    return value


def _case(name: str, group: str, content: str = "") -> tuple[str, str, str]:
    return str(name), str(group), str(content)


def _scores(
    values: list[float | None],
    cases: list[tuple[str, str, str]],
    seeds: tuple[int, ...],
    code: tuple[str, ...],
) -> Scores:
    """The cases that have a score, which lies in [0, 1]."""
    there = [
        (*case, float(value))
        for case, value in zip(cases, values, strict=True)
        if value is not None
    ]
    if any(not 0 <= value <= 1 for *_, value in there):
        raise ValueError("a score is not between 0 and 1")
    if not there:
        raise ValueError("no case has a score")
    names, groups, contents, scores = zip(*there, strict=True)
    return Scores(tuple(names), tuple(groups), np.array(scores, np.float64), contents, seeds, code)
