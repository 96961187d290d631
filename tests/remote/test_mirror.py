"""Machines that share a workspace in an object store: what one has finished the others see."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from segbench import atomic
from segbench.errors import MachineError, UserError
from segbench.store.alive import process_here
from segbench.store.compaction import compact_run
from segbench.store.mirror import Mirror
from segbench.store.objects import normal_url
from segbench.store.records import read_record, write_record
from segbench.store.rows import append_shard, read_rows
from segbench.store.runs import begin_run, read_runs, write_run
from segbench.store.tensors import load_tensors, save_tensors
from segbench.store.workspace import Workspace
from segbench.training import lock
from segbench.training.lock import locked
from segbench.training.progress import load_progress
from segbench.training.weight_files import parse_safetensors, read_torch
from segbench.training.weights import load_weights

KEY = "ab" * 16
Machine = Callable[[str], Workspace]


def append(workspace: Workspace, row: Any, run: int, case: str, jaccard: float = 0.5) -> Path:
    return append_shard(workspace, KEY, run, {}, [row(case_id=case, jaccard=jaccard)])


def names(store: Any) -> set[str]:
    return {found.key.removeprefix("study/") for found in store.objects.all()}


def test_a_finished_shard_is_there_before_it_is_here_and_others_see_it(
    machine: Machine, store: Any, row: Any
) -> None:
    one, other = machine("one"), machine("other")
    path = append(one, row, 1, "a")
    assert names(store) == {f"results/shards/{path.name}"}
    assert read_rows(other)["case_id"].tolist() == ["a"]
    append(other, row, 2, "b")
    assert read_rows(one)["case_id"].tolist() == ["a", "b"]


def test_what_cannot_be_stored_there_is_not_here_either(
    machine: Machine, store: Any, row: Any
) -> None:
    one = machine("one")
    append(one, row, 1, "a")
    store.objects.all().delete()
    store.delete()
    with pytest.raises(MachineError, match=r"workspace s3://.*cannot be written at results/shards"):
        append(one, row, 1, "b")
    assert len([*one.shards.iterdir()]) == 1


def test_compaction_elsewhere_loses_doubles_and_brings_back_nothing(
    machine: Machine, store: Any, row: Any
) -> None:
    one, other = machine("one"), machine("other")
    for case in "abc":
        append(one, row, 1, case)
    assert len(read_rows(other)) == 3
    append(other, row, 2, "d")
    compact_run(one, "run-00001", {KEY})
    assert [name.partition("-")[0] for name in sorted(names(store))] == ["results/run"]
    rows = read_rows(other)
    assert rows["case_id"].tolist() == [*"abcd"]
    assert not [*other.shards.glob("*.parquet")]
    append(other, row, 2, "e")
    compact_run(other, "run-00002", {KEY})
    assert read_rows(one)["case_id"].tolist() == read_rows(machine("new"))["case_id"].tolist()


def test_two_that_compact_the_same_shards_leave_every_row_once(
    machine: Machine, row: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other machine has listed the shards, and gathers them, before this one removes them."""
    one, other = machine("one"), machine("other")
    for case in "abc":
        append(one, row, 1, case)
    read_rows(other)
    with monkeypatch.context() as patched:
        patched.setattr(Mirror, "refresh", lambda *a, **k: None)
        compact_run(one, "run-00001", {KEY})
        compact_run(other, "run-00002", {KEY})
    for workspace in (one, other, machine("new")):
        assert read_rows(workspace)["case_id"].tolist() == [*"abc"]


def test_a_file_that_another_process_of_this_machine_writes_meanwhile_stays(
    machine: Machine, row: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = machine("one")
    append(one, row, 1, "a")
    fetch, late = Mirror._fetch, []

    def writing(self: Mirror, wanted: list[str]) -> list[str]:
        if not late:
            late.append(append(one, row, 1, "b"))  # after the store was listed
        return fetch(self, wanted)

    monkeypatch.setattr(Mirror, "_fetch", writing)
    one.refresh_rows()
    assert late[0].exists()


def test_a_file_that_goes_while_it_is_fetched_is_looked_for_again(
    machine: Machine, row: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = machine("one"), machine("other")
    for case in "ab":
        append(one, row, 1, case)
    fetch, compacted = Mirror._fetch, []

    def compacting(self: Mirror, wanted: list[str]) -> list[str]:
        if self is other.mirror and not compacted:
            compacted.append(compact_run(one, "run-00001", {KEY}))
        return fetch(self, wanted)

    monkeypatch.setattr(Mirror, "_fetch", compacting)
    assert read_rows(other)["case_id"].tolist() == ["a", "b"]
    assert compacted


def test_what_is_created_is_ones_own_though_the_answer_was_lost(
    machine: Machine, run_record: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The library asks again, and is told that the name is taken; another's stays another's."""
    from s3fs import S3FileSystem

    asked, call = [], S3FileSystem._call_s3

    async def twice(self: Any, method: str, *words: Any, **how: Any) -> Any:
        if how.get("IfNoneMatch"):
            asked.append(how["Key"])
            with suppress(FileExistsError):
                await call(self, method, *words, **how)
        return await call(self, method, *words, **how)

    monkeypatch.setattr(S3FileSystem, "_call_s3", twice)
    one, other = machine("one"), machine("other")
    assert begin_run(one, run_record()).number == 1
    assert atomic.write_exclusively(one.results / "run-00002.json", b"{}")
    assert not atomic.write_exclusively(other.results / "run-00002.json", b"{}")
    with locked(one, one.root / "models" / "net"):
        assert len(asked) == 4
        with (
            pytest.raises(UserError, match="is being trained"),
            locked(other, other.root / "models" / "net"),
        ):
            pass


def test_what_is_damaged_there_is_named_as_it_is_called_there(machine: Machine, url: str) -> None:
    path = machine("one").root / "models" / "net" / "file"
    atomic.write_atomically(path, b"damaged")
    for read in (
        lambda: parse_safetensors(b"damaged", path),
        lambda: read_torch(path),
        lambda: load_weights(nn.Linear(1, 1), path),
        lambda: load_progress(path),
    ):
        with pytest.raises(UserError) as refused:
            read()
        assert f"{url}/models/net/file" in str(refused.value)
        assert str(path) not in str(refused.value)


def test_no_two_machines_have_one_run(machine: Machine, run_record: Any) -> None:
    one, other = machine("one"), machine("other")
    stale = begin_run(one, run_record())
    assert begin_run(other, run_record()).number == 2
    path = other.results / "run-00003.json"
    assert atomic.write_exclusively(path, b"{}")
    assert not atomic.write_exclusively(one.results / "run-00003.json", b"{}")
    path.unlink()
    write_run(one, stale.model_copy(update={"status": "done"}))
    atomic.remove(path)
    assert [run.status for run in read_runs(other)] == ["done", "running"]


def test_what_is_replaced_elsewhere_is_fetched_and_what_is_not_is_not(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = machine("one"), machine("other")
    path = one.models / "net" / "card.json"
    write_record(path, {"version": 1})
    there = other.models / "net" / "card.json"
    other.refresh(other.models, deep=True)
    assert read_record(there) == {"version": 1}
    write_record(path, {"version": 2})
    other.refresh(other.models, deep=True)
    assert read_record(there) == {"version": 2}
    monkeypatch.setattr(Mirror, "_fetch_one", lambda *_: pytest.fail("fetched again"))
    for workspace in (one, other):  # its own writer knows it by its hash
        workspace.refresh(workspace.models, deep=True)
    atomic.remove(path)
    other.refresh(other.models, deep=True)
    assert not there.exists()


def test_a_name_that_leads_out_of_the_copy_is_no_file(machine: Machine, store: Any) -> None:
    one = machine("one")
    for name in ("study/models/../../../out.json", "study/models/.hidden", "study/models/a\\b"):
        store.put_object(Key=name, Body=b"x")
    one.refresh(one.models, deep=True)
    assert not [
        path for path in one.root.rglob("*") if path.suffix == ".json" and path.name[0] != "."
    ]
    assert not (one.root.parent / "out.json").exists()
    assert not one.models.exists()


def test_a_copy_may_be_deleted(machine: Machine, row: Any) -> None:
    import shutil

    one = machine("one")
    append(one, row, 1, "a")
    shutil.rmtree(one.root)
    assert read_rows(one)["case_id"].tolist() == ["a"]


def test_another_process_opens_it_anew(machine: Machine, url: str) -> None:
    one = machine("one")
    again = pickle.loads(pickle.dumps(one))
    assert (again, again.mirror.objects.url) == (one, url)
    assert pickle.loads(pickle.dumps(Workspace(Path("runs")))) == Workspace(Path("runs"))


def test_one_machine_at_a_time_trains_a_network(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, other = machine("one"), machine("other")
    name = "net@data#0"
    with locked(one, one.models / name):
        (lease,) = [*(one.models / name).glob("training-*.json")]
        write_record(lease, {**(read_record(lease) or {}), "host": "elsewhere"})
        with (
            pytest.raises(UserError, match=rf"study/models/{name} is being trained on elsewhere"),
            locked(other, other.models / name),
        ):
            pass
    monkeypatch.setattr(lock, "_RENEWED", 0.05)
    with locked(other, other.models / name):
        (lease,) = [*(other.models / name).glob("training-*.json")]
        before = read_record(lease)
        while read_record(lease) == before:
            time.sleep(0.01)
    assert not [*(other.models / name).glob("training-*.json")]


def test_the_lease_of_a_machine_that_is_gone_is_taken_once(machine: Machine) -> None:
    one, other = machine("one"), machine("other")
    owner = {"host": "gone", "pid": 1, "renewed": time.time() - 301}
    write_record(one.models / "net" / "training-7.json", owner)
    with locked(other, other.models / "net"):
        assert [p.name for p in (other.models / "net").glob("t*")] == ["training-8.json"]
    assert not [*(other.models / "net").glob("t*")]


def test_a_process_of_this_machine_that_was_killed_is_not_waited_for(machine: Machine) -> None:
    """Copies in two caches do not see each other's locks, but a process can be looked for."""
    one, other = machine("one"), machine("other")
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        owner = process_here(process.pid).model_dump() | {"renewed": time.time()}
        write_record(one.models / "net" / "training-1.json", owner)
        with (
            pytest.raises(UserError, match="is being trained on"),
            locked(other, other.models / "net"),
        ):
            pass
        process.kill()
    with locked(other, other.models / "net"):
        pass


@pytest.mark.parametrize(
    "other_facts",
    [{"machine": "another boot"}, {"machine": ""}],
    ids=["of one name", "of a system that does not say"],
)
def test_a_process_number_says_nothing_of_another_machine(
    machine: Machine, other_facts: dict[str, str]
) -> None:
    """As of two containers of one image, each of which has no process of the other's number."""
    one, other = machine("one"), machine("other")
    with subprocess.Popen([sys.executable, "-c", ""]) as gone:
        gone.wait()
    owner = process_here(gone.pid).model_dump() | other_facts | {"renewed": time.time()}
    write_record(one.models / "net" / "training-1.json", owner)
    with (
        pytest.raises(UserError, match="is being trained on"),
        locked(other, other.models / "net"),
    ):
        pass


@pytest.mark.parametrize("kind", ["rows", "record", "tensors"])
def test_of_a_damaged_copy_a_new_one_is_made_and_the_object_is_not_blamed(
    machine: Machine, row: Any, store: Any, kind: str
) -> None:
    one = machine("one")
    if kind == "rows":
        path = append(one, row, 1, "a")
    elif kind == "record":
        write_record(path := one.models / "record.json", {"some": "fact"})
    else:
        save_tensors(path := one.certified / "k" / "votes.safetensors", {"v": torch.arange(9)}, {})

    def read() -> object:
        if kind == "rows":
            return read_rows(one)["case_id"].tolist()
        return read_record(path) if kind == "record" else load_tensors(path)[0]["v"].tolist()  # type: ignore[index]

    good, content = read(), path.read_bytes()
    middle = len(content) // 2
    bad = content[:middle] + bytes([content[middle] ^ 1]) + content[middle + 1 :]
    path.write_bytes(bad)
    assert read() == good
    assert path.read_bytes() == content
    path.write_bytes(bad)
    store.put_object(Key=f"study/{path.relative_to(one.root).as_posix()}", Body=bad)
    with pytest.raises(UserError, match=r"study/.* is damaged"):
        read()


def test_a_bucket_that_is_gone_is_said_and_the_copy_stays(
    machine: Machine, row: Any, store: Any
) -> None:
    one = machine("one")
    path = append(one, row, 1, "a")
    assert len(read_rows(one)) == 1
    store.objects.delete()
    store.delete()
    with pytest.raises(UserError, match="there is no bucket"):
        read_rows(one)
    assert path.exists()
    store.create()
    assert read_rows(one).empty  # it is there, and empty


def test_a_url_is_written_in_one_way() -> None:
    assert normal_url("s3://bucket/a/b//") == "s3://bucket/a/b"
    for text in ("s3://", "s3:///x", "ftp://host/x", "s3://bucket/../x", "gs://b//x", "://x"):
        with pytest.raises(UserError, match="expected a folder, s3://BUCKET/NAME"):
            normal_url(text)
