"""The store: what is written comes back, once, whoever else writes, reads or dies."""

from __future__ import annotations

import errno
import itertools
import json
import os
import random
import re
import resource
import signal
import subprocess
import sys
import threading
import time
from fractions import Fraction
from functools import partial
from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segbench import atomic
from segbench.errors import MachineError, UserError
from segbench.store import rowfile
from segbench.store import rows as store
from segbench.store.compaction import compact_run
from segbench.store.index import RowIndex
from segbench.store.records import SharedDigest, canonical_text, digest
from segbench.store.rows import append_shard, cell_key, read_rows
from segbench.store.runs import read_runs
from segbench.store.workspace import Workspace

CONSTANT = ("model", "weights_sha256", "dataset", "dataset_fingerprint", "split", "attack")

TEXT = st.text(st.characters(exclude_categories=("Cs",)), max_size=8)
VALUES = {
    "string": TEXT,
    "int32": st.integers(-(2**31), 2**31 - 1),
    "int64": st.integers(-(2**63), 2**63 - 1),
    "double": st.floats(allow_nan=True),
}

WRITER = """
import json, sys
from pathlib import Path
from segbench.store.workspace import Workspace
from segbench.store.compaction import compact_run
from segbench.store.rows import append_shard
workspace, key, row = Workspace(Path(sys.argv[1])), sys.argv[2], json.loads(sys.argv[3])
for n in range(int(sys.argv[4])):
    names = [f"{key}-{n}-{i}" for i in range(8)]
    rows = [row | {"case_id": name, "case_sha256": name} for name in names]
    append_shard(workspace, key, n, {}, rows)
    print(n, flush=True)
    if n % 5 == 4:
        compact_run(workspace, "same-run", [key])
"""


@pytest.fixture
def workspace(tmp_path):
    return Workspace(tmp_path / "runs")


@pytest.fixture
def shard(workspace, row):
    """Write a shard of a few cases, by the run ``n``."""

    def write(key="a0", n=1, cases=3, **given):
        full = [row(case_id=f"{key}-{n}-{i}", **given) for i in range(cases)]
        constants = {name: full[0][name] for name in CONSTANT}
        rows = [{k: v for k, v in r.items() if k not in CONSTANT} for r in full]
        return append_shard(workspace, key, n, constants, rows)

    return write


def finished_cases(workspace, cells, damaged=None, **wanted):
    """Cell -> which of all cases that a test here may write need not be computed again."""
    keys, numbers = ["a0", "b0", *cells], itertools.product(range(400), range(8))
    names = [f"{key}-{n}-{i}" for n, i in numbers for key in dict.fromkeys(keys)]
    names += ["a", "b", "case-000"]
    wanted = {name: [value] * len(names) for name, value in wanted.items()}
    done = RowIndex(workspace).finished([*cells], names, wanted, damaged)
    return {
        cell: {name for name, there in zip(names, own, strict=True) if there}
        for cell, own in zip(cells, done, strict=True)
    }


def _finished(workspace, *cells):
    """The cases of those cells that need not be computed again."""
    found = finished_cases(workspace, cells)
    return {(cell, case) for cell, cases in found.items() for case in cases}


def _cases(key, n, cases=3):
    return {(key, f"{key}-{n}-{i}") for i in range(cases)}


def _temporary_files(workspace):
    return [p for p in workspace.root.rglob("*") if p.name.endswith(".tmp")]


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=40
)
@given(data=st.data())
def test_every_value_of_every_type_comes_back(tmp_path_factory, data):
    workspace = Workspace(tmp_path_factory.mktemp("runs"))
    full = data.draw(st.fixed_dictionaries({n: VALUES[t] for n, t in rowfile.COLUMNS.items()}))
    constant = data.draw(st.sets(st.sampled_from(list(full))))
    constants = {name: full[name] for name in constant}
    rest = {name: value for name, value in full.items() if name not in constant}
    append_shard(workspace, "a0", 3, constants, [rest])
    for _ in range(2):  # from the shard, then from the compacted file
        back = read_rows(workspace)
        assert list(back) == [*rowfile.COLUMNS, *rowfile.ADDRESS]
        for name, value in full.items():
            stored = back[name].item()
            both_nan = value != value and stored != stored
            assert both_nan or stored == value, name
        assert (back["cell"].item(), back["run"].item()) == ("a0", 3)
        assert back["class_id"].dtype == "int32"
        assert back["false_positives"].dtype == "int64"
        compact_run(workspace, "run-00001", ["a0"])


def test_constants_are_on_disk_once(shard):
    path = shard(cases=4)
    assert not set(pq.read_schema(path).names) & set(CONSTANT)


def test_compaction_changes_the_files_and_not_the_rows(workspace, shard):
    for n in range(3):
        shard("a0", n)
    other = shard("b0", 1, attack="fgsm")
    before, finished = read_rows(workspace), _finished(workspace, "a0", "b0")
    path = compact_run(workspace, "run-00001", ["a0"])
    assert re.fullmatch(r"run-00001-[0-9a-f]{16}\.parquet", path.name)
    assert [*workspace.shards.iterdir()] == [other]
    pd.testing.assert_frame_equal(read_rows(workspace), before)
    assert _finished(workspace, "a0", "b0") == finished
    assert finished == _cases("a0", 0) | _cases("a0", 1) | _cases("a0", 2) | _cases("b0", 1)
    assert compact_run(workspace, "run-00001", ["a0"]) is None


def test_two_files_of_one_run_are_both_kept(workspace, shard):
    shard("a0")
    compact_run(workspace, "run-00001", ["a0"])
    shard("b0")
    compact_run(workspace, "run-00001", ["b0"])
    assert _finished(workspace, "a0", "b0") == _cases("a0", 1) | _cases("b0", 1)


def test_a_crash_before_the_shards_go_doubles_nothing(workspace, shard, monkeypatch):
    shard("a0")
    before = read_rows(workspace)

    def die(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(Path, "unlink", die)
        with pytest.raises(KeyboardInterrupt):
            compact_run(workspace, "run-00001", ["a0"])
    assert len(list(workspace.shards.iterdir())) == 1
    pd.testing.assert_frame_equal(read_rows(workspace), before)
    compact_run(workspace, "run-00001", ["a0"])
    pd.testing.assert_frame_equal(read_rows(workspace), before)


def test_of_rows_computed_twice_that_of_the_later_run_counts_whatever_the_clock_says(
    workspace, row, monkeypatch
):
    for run, clock, jaccard in ((1, 300.0, 0.1), (3, 100.0, 0.3), (2, 200.0, 0.2)):
        monkeypatch.setattr(store.time, "time", lambda clock=clock: clock)
        append_shard(workspace, "a0", run, {}, [row(jaccard=jaccard)])
        compact_run(workspace, f"run-0000{run}", ["a0"])
    assert read_rows(workspace)["jaccard"].tolist() == [0.3]


def test_what_only_an_earlier_run_measured_is_kept(workspace, row):
    measured = {"hd95": 3.0, "nsd": 0.5, "nsd_tolerance": 1.0}
    append_shard(workspace, "a0", 1, {}, [row(case_id="a", **measured), row(case_id="b")])
    append_shard(workspace, "a0", 2, {}, [row(case_id="a"), row(case_id="b")])
    rows = read_rows(workspace).set_index("case_id")
    assert rows.loc["a", [*measured]].to_dict() == measured
    assert rows.loc["b", "nsd_tolerance"] != rows.loc["b", "nsd_tolerance"]
    assert rows["run"].tolist() == [2, 2]
    assert finished_cases(workspace, ["a0"]) == {"a0": {"a", "b"}}
    assert finished_cases(workspace, ["a0"], nsd_tolerance=1.0) == {"a0": {"a"}}
    assert finished_cases(workspace, ["a0"], nsd_tolerance=2.0) == {"a0": set()}


def test_what_was_measured_at_different_times_is_kept_together(workspace, row):
    surfaces = {"hd95": 3.0, "nsd": 0.5, "nsd_tolerance": 1.0}
    lesions = {"lesions": 3.0, "lesions_found": 2.0, "lesions_false": 1.0, "lesion_overlap": 0.1}
    append_shard(workspace, "a0", 1, {}, [row(**surfaces)])
    append_shard(workspace, "a0", 2, {}, [row(**lesions)])
    append_shard(workspace, "a0", 3, {}, [row()])
    (rows,) = read_rows(workspace).to_dict("records")
    assert {name: rows[name] for name in surfaces | lesions} == surfaces | lesions
    both = {"nsd_tolerance": 1.0, "lesion_overlap": 0.1}
    assert finished_cases(workspace, ["a0"], **both) == {"a0": {"case-000"}}
    append_shard(workspace, "a0", 4, {}, [row(**lesions | {"lesion_overlap": 0.5})])
    assert finished_cases(workspace, ["a0"], **both) == {"a0": set()}
    both["lesion_overlap"] = 0.5
    assert finished_cases(workspace, ["a0"], **both) == {"a0": {"case-000"}}
    assert read_rows(workspace)["lesion_overlap"].tolist() == [0.5]


def test_files_written_before_lesions_were_counted_are_read(workspace, row, monkeypatch):
    whole, given = dict(rowfile.COLUMNS), row()
    before = {name: kind for name, kind in whole.items() if not name.startswith("lesion")}
    monkeypatch.setattr(rowfile, "COLUMNS", before)
    rowfile.schema.cache_clear()
    append_shard(workspace, "a0", 1, {}, [{n: v for n, v in given.items() if n in before}])
    monkeypatch.setattr(rowfile, "COLUMNS", whole)
    rowfile.schema.cache_clear()
    rows = read_rows(workspace)
    assert len(rows) == 1
    assert rows[[*whole.keys() - before.keys()]].isna().to_numpy().all()
    assert finished_cases(workspace, ["a0"]) == {"a0": {"case-000"}}
    assert finished_cases(workspace, ["a0"], lesion_overlap=0.1) == {"a0": set()}


def test_the_tolerance_that_is_shown_is_the_one_that_need_not_be_measured_again(workspace, row):
    for run, tolerance in ((1, 1.0), (2, 2.0)):
        measured = {"hd95": 3.0, "nsd": 0.5, "nsd_tolerance": tolerance}
        append_shard(workspace, "a0", run, {}, [row(case_id="a", **measured)])
        compact_run(workspace, f"run-0000{run}", {"a0"})
    append_shard(workspace, "a0", 3, {}, [row(case_id="a")])
    assert finished_cases(workspace, ["a0"], nsd_tolerance=2.0) == {"a0": {"a"}}
    assert finished_cases(workspace, ["a0"], nsd_tolerance=1.0) == {"a0": set()}
    assert read_rows(workspace)["nsd_tolerance"].tolist() == [2.0]


def test_a_shard_that_is_compacted_while_it_is_looked_for_is_found(workspace, row, monkeypatch):
    append_shard(workspace, "a0", 1, {}, [row(case_id="a")])
    read = rowfile.read_if_there

    def compacted_before(path, columns=None, **options):
        monkeypatch.undo()
        compact_run(workspace, "run-00001", {"a0"})
        return read(path, columns, **options)

    monkeypatch.setattr(rowfile, "read_if_there", compacted_before)
    assert finished_cases(workspace, ["a0"]) == {"a0": {"a"}}


def test_what_was_measured_on_another_score_is_not_put_beside_it(workspace, row):
    append_shard(workspace, "a0", 1, {}, [row(hd95=3.0, nsd=0.5, nsd_tolerance=1.0, jaccard=0.4)])
    append_shard(workspace, "a0", 2, {}, [row(jaccard=0.5)])
    assert read_rows(workspace)["hd95"].isna().all()


def _append_one(workspace, changes, key="a0"):
    template = {n: {"string": "", "double": 0.0}.get(t, 0) for n, t in rowfile.COLUMNS.items()}
    append_shard(workspace, key, 1, {}, [template | changes])


@pytest.mark.parametrize("name", ["cell", "case_sha256", "class_id"])
def test_rows_that_differ_in_what_they_are_known_by_are_all_kept(workspace, name):
    _append_one(workspace, {})
    if name == "cell":
        _append_one(workspace, {}, "b0")
    else:
        _append_one(workspace, {name: "x" if name == "case_sha256" else 1})
    assert len(read_rows(workspace)) == 2


@pytest.mark.parametrize("name", ["model", "dataset", "dataset_fingerprint", "split", "case_id"])
def test_names_are_no_part_of_what_a_row_is_known_by(workspace, name):
    _append_one(workspace, {})
    _append_one(workspace, {name: "x"})
    assert len(read_rows(workspace)) == 1


def test_the_order_of_writing_does_not_show(tmp_path, row):
    frames = []
    for order in ([0, 1, 2], [2, 0, 1]):
        workspace = Workspace(tmp_path / str(order[0]))
        for n in order:
            append_shard(workspace, "a0", n, {}, [row(case_id=f"c{n}")])
        frames.append(read_rows(workspace).drop(columns="created"))
    pd.testing.assert_frame_equal(*frames)


def test_an_absent_workspace_is_empty_and_is_not_made(workspace):
    assert read_rows(workspace).empty
    assert list(read_rows(workspace)) == [*rowfile.COLUMNS, *rowfile.ADDRESS]
    assert finished_cases(workspace, ["a0"]) == {"a0": set()}
    assert read_runs(workspace) == []
    assert not workspace.root.exists()


@pytest.mark.parametrize(
    "rows",
    [
        [{}],
        [{"extra": 1}],
        [{"budget": "much"}],
        [{"seed": None}],
        [{"class_id": 2**40}],
    ],
)
def test_a_row_that_does_not_fit_the_schema_is_a_bug_that_raises(workspace, row, rows):
    full = [row() | changes if changes else {} for changes in rows]
    with pytest.raises((ValueError, TypeError)):
        append_shard(workspace, "a0", 0, {}, full)
    with pytest.raises((ValueError, TypeError)):
        append_shard(workspace, "a0", 0, {"no-column": 1}, [row()])
    assert not workspace.root.exists()


def test_keys_depend_on_facts_and_not_on_how_they_are_written():
    facts = {"eps": Fraction(8, 255), "steps": 40, "attack": {"step": 0.25, "loss": "ce"}}
    same = {"attack": {"loss": "ce", "step": 0.25}, "steps": 40.0, "eps": Fraction(16, 510)}
    assert cell_key(facts) == cell_key(same)
    assert len(cell_key(facts)) == 32
    assert cell_key({"a": [1, 2]}) == cell_key({"a": (1, 2)})


@pytest.mark.parametrize(
    "other",
    [
        {"eps": Fraction(8, 256), "on": True, "names": ["a", "b"]},
        {"eps": Fraction(8, 255), "on": 1, "names": ["a", "b"]},
        {"eps": Fraction(8, 255), "on": True, "names": ["b", "a"]},
        {"eps": Fraction(8, 255), "on": True, "names": ["a,b"]},
        {"eps": 8 / 255, "on": True, "names": ["a", "b"]},
    ],
)
def test_other_facts_have_another_key(other):
    assert cell_key(other) != cell_key({"eps": Fraction(8, 255), "on": True, "names": ["a", "b"]})


def test_what_many_cells_share_is_written_once_and_changes_no_key():
    shared = {"attack": {"name": "pgd", "steps": 40.0}, "where": '\0,"é', "schema": 2}
    keys = SharedDigest(shared, ["seed", "budget"])
    for own in ({"seed": 1, "budget": ["linf", Fraction(8, 255)]}, {"seed": "\0", "budget": None}):
        texts = {name: canonical_text(value) for name, value in own.items()}
        assert keys.of(texts) == digest(shared | own)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), {1, 2}, b"x", {1: 2}])
def test_facts_without_one_spelling_are_refused(value):
    with pytest.raises((ValueError, TypeError)):
        cell_key({"fact": value})


def _cut(path):
    path.write_bytes(path.read_bytes()[:-20])
    return path


def _foreign(path):
    pq.write_table(pa.table({"x": [1]}), path)
    return path


def _written(header, table=None):
    def spoil(path):
        path.unlink()
        table = pa.table({"x": [1]})
        return rowfile.write(path.parent, "run-00001", table, header)

    return spoil


def _filled(content):
    def spoil(path):
        path.write_bytes(content)
        return path

    return spoil


SPOILT = [
    (_filled(b""), "is damaged or not a Parquet file"),
    (_filled(b"text" * 9), "is damaged or not a Parquet file"),
    (_cut, "is damaged or not a Parquet file"),
    (_foreign, "its checksum is not that of its name"),
    (_written({"schema": 99}), "has schema 99"),
    (_written({"compacted": "r"}), "lacks the column"),
    (_written({"schema": "two"}), "its header cannot be read"),
]


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_a_spoilt_file_is_named_in_one_sentence(workspace, shard, spoil, message):
    shard()
    path = spoil(compact_run(workspace, "run-00001", ["a0"]))
    for reader in (read_rows, partial(finished_cases, cells=["a0"])):
        with pytest.raises(UserError, match=message) as caught:
            reader(workspace)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)


@pytest.mark.parametrize(("spoil", "message"), SPOILT)
def test_a_spoilt_file_condemns_no_other(workspace, shard, spoil, message):
    shard("a0")
    spoil(compact_run(workspace, "run-00001", ["a0"]))
    shard("b0", 2)
    damaged = []
    assert read_rows(workspace, damaged)["cell"].unique().tolist() == ["b0"]
    assert finished_cases(workspace, ["a0"], damaged) == {"a0": set()}
    assert len(damaged) == 2
    assert all(message in sentence for sentence in damaged)
    compact_run(workspace, "run-00002", ["a0", "b0"])
    assert len(read_rows(workspace, [])) == 3


@pytest.mark.parametrize("compacted", [False, True])
def test_one_flipped_bit_never_becomes_another_score(workspace, shard, compacted):
    path = shard()
    if compacted:
        path = compact_run(workspace, "run-00001", ["a0"])
    content = path.read_bytes()
    chance = random.Random(0)
    for _ in range(200):
        spoilt = bytearray(content)
        spoilt[chance.randrange(len(content))] ^= 1 << chance.randrange(8)
        path.write_bytes(bytes(spoilt))
        with pytest.raises(UserError, match=re.escape(str(path))):
            read_rows(workspace)


def test_a_store_of_schema_1_is_set_aside_by_a_command_and_never_deleted(workspace):
    workspace.shards.mkdir(parents=True)
    old = workspace.shards / "ab12-0.parquet"
    old.write_bytes(b"rows of an older segbench")
    for reader in (read_rows, partial(finished_cases, cells=["a0"])):
        with pytest.raises(UserError, match="older segbench") as caught:
            reader(workspace)
    (command,) = re.findall("`(mv .*?)`", str(caught.value))
    subprocess.run(command, shell=True, check=True)
    assert read_rows(workspace).empty
    assert (workspace.root / "results-1" / "shards" / old.name).is_file()


def test_a_misnamed_shard_is_refused_and_hidden_files_are_not_looked_at(workspace, shard):
    shard()
    (workspace.shards / ".a0-1.parquet").write_bytes(b"of another program")
    assert len(read_rows(workspace)) == 3
    (workspace.shards / "copy of a0.parquet").write_bytes(b"")
    with pytest.raises(UserError, match=r"copy of a0\.parquet is not a segbench shard"):
        finished_cases(workspace, ["a0"])


def test_a_pipe_among_the_results_is_refused_and_not_waited_for(workspace, shard):
    shard()
    os.mkfifo(workspace.results / "run-00001-0123456789abcdef.parquet")
    with pytest.raises(UserError, match="is not a regular file"):
        read_rows(workspace)


@pytest.mark.parametrize("call", ["fsync", "replace"])
@pytest.mark.parametrize(
    "code", [errno.ENOSPC, errno.EROFS, errno.EIO], ids=["full", "read-only", "broken"]
)
def test_a_refusing_disk_is_a_machine_error_and_leaves_nothing(
    workspace, shard, monkeypatch, call, code
):
    shard("a0")

    def refuse(*_, **__):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(atomic.os, call, refuse)
    with pytest.raises(MachineError, match=f"cannot write .*a0-2-.*: {os.strerror(code)}"):
        shard("a0", 2)
    assert _temporary_files(workspace) == []
    assert _finished(workspace, "a0") == _cases("a0", 1)
    assert len(read_rows(workspace)) == 3


def test_a_folder_that_cannot_be_made_is_a_machine_error(tmp_path, row):
    (tmp_path / "runs").write_text("a file is in the way")
    with pytest.raises(MachineError, match="cannot write"):
        append_shard(Workspace(tmp_path / "runs"), "a0", 0, {}, [row()])


@pytest.mark.skipif(sys.platform != "linux", reason="RLIMIT_FSIZE as a small disk")
def test_a_disk_that_fills_in_the_middle_of_a_file_leaves_no_file(workspace, shard, row):
    shard("a0")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, before[1]))
    try:
        with pytest.raises(MachineError, match="cannot write"):
            shard("a0", 2)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    assert _temporary_files(workspace) == []
    assert _finished(workspace, "a0") == _cases("a0", 1)


def _start_writer(workspace, key, row, shards):
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(workspace.root), key, json.dumps(row), str(shards)],
        stdout=subprocess.PIPE,
        text=True,
    )


def test_a_writer_killed_at_any_moment_loses_only_the_shard_in_flight(workspace, row):
    chance = random.Random(0)
    keys = [f"a{attempt}" for attempt in range(6)]
    announced: set[tuple[str, str]] = set()
    for attempt, key in enumerate(keys):
        with _start_writer(workspace, key, row(), 100_000) as writer:
            assert writer.stdout.readline() == "0\n"
            time.sleep(chance.uniform(0, 0.05))
            writer.send_signal(signal.SIGKILL)
            lines = writer.stdout.read().splitlines()
        announced |= {pair for n in [0, *map(int, lines)] for pair in _cases(key, n, 8)}
        finished = _finished(workspace, *keys)
        assert announced <= finished
        assert len(finished - announced) <= 8 * (attempt + 1)
        cases = read_rows(workspace)["case_id"]
        assert cases.is_unique
        assert len(cases) == len(finished)


def test_two_writers_under_one_run_name_and_a_reader_never_harm_each_other(workspace, row):
    keys, shards = ["aa", "bb"], 30
    writers = [_start_writer(workspace, key, row(), shards) for key in keys]
    seen = 0
    while any(writer.poll() is None for writer in writers):
        cases = read_rows(workspace)["case_id"]
        assert cases.is_unique
        assert len(cases) >= seen  # nothing ever goes missing, in mid-compaction either
        assert len(cases) % 8 == 0
        seen = len(cases)
    for writer in writers:
        writer.communicate()
        assert writer.returncode == 0
    expected = {pair for key in keys for n in range(shards) for pair in _cases(key, n, 8)}
    assert _finished(workspace, *keys) == expected
    assert len(read_rows(workspace)) == 2 * shards * 8
    assert _temporary_files(workspace) == []


def test_reading_while_compacting_sees_every_row_once(workspace, shard):
    for n in range(40):
        shard("a0", n, cases=2)
    done = threading.Event()

    def compact():
        try:
            for step in range(4):
                compact_run(workspace, f"run{step}", ["a0"])
                for n in range(20):
                    shard(f"b{step}", n, cases=1)
                compact_run(workspace, f"rest{step}", [f"b{step}"])
        finally:
            done.set()

    thread = threading.Thread(target=compact)
    thread.start()
    while not done.is_set():
        rows = read_rows(workspace)
        assert (rows["cell"] == "a0").sum() == 80
        assert len(_finished(workspace, "a0")) == 80
        assert not rows.duplicated(["case_id"]).any()
    thread.join()
    assert len(read_rows(workspace)) == 80 + 4 * 20


def test_the_store_imports_neither_arrow_nor_pandas_until_it_is_used():
    code = (
        "import sys, segbench.store.rows; print({'pandas', 'pyarrow', 'torch'} & set(sys.modules))"
    )
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "set()\n"
