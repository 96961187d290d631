"""A workspace in Google's store: an emulator on loopback, through the code that a bucket gets.

The emulator knows no ``ifGenerationMatch``, so that two runs at once are not tried here.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import Result

from segbench import atomic
from segbench.errors import UserError
from segbench.store.compaction import compact_run
from segbench.store.rows import append_shard, read_rows
from segbench.store.workspace import Workspace, open_workspace

KEY = "ab" * 16
URL = "gs://results/study"


@pytest.fixture(scope="module")
def emulator() -> Iterator[str]:
    """Its address; it has one bucket."""
    pytest.importorskip("gcsfs")
    server = pytest.importorskip("gcp_storage_emulator.server")
    running = server.create_server("127.0.0.1", 0, in_memory=True, default_bucket="results")
    running.start()
    yield f"http://127.0.0.1:{running._api._httpd.socket.getsockname()[1]}"
    running.stop()


@pytest.fixture
def machine(
    emulator: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[str], Workspace]:
    """The workspace as a machine of that name has it."""
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", emulator)

    def on(name: str) -> Workspace:
        monkeypatch.setenv("SEGBENCH_CACHE_DIR", str(tmp_path / name))
        return open_workspace(URL)

    return on


def test_what_one_machine_stores_replaces_and_removes_another_sees(
    machine: Callable[[str], Workspace], row: Any, call: Callable[..., Result]
) -> None:
    one, other = machine("one"), machine("other")
    for case in "abc":
        append_shard(one, KEY, 1, {}, [row(case_id=case)])
    assert read_rows(other)["case_id"].tolist() == [*"abc"]
    compact_run(one, "run-00001", {KEY})
    assert read_rows(other)["case_id"].tolist() == [*"abc"]
    assert not [*other.shards.glob("*.parquet")]
    note = one.results / "costs" / "net.json"
    for content in (b"first", b"second"):
        atomic.write_atomically(note, content)
        other.refresh(other.results / "costs")
        assert (other.results / "costs" / "net.json").read_bytes() == content
    atomic.remove(note)
    other.refresh(other.results / "costs")
    assert not (other.results / "costs" / "net.json").exists()
    machine("third")
    listed = call("list", "cells", "--workspace", URL)
    assert listed.exit_code == 0, listed.output


def test_a_bucket_that_is_not_there_is_one_sentence(
    machine: Callable[[str], Workspace], tmp_path: Path
) -> None:
    machine("one")
    with pytest.raises(UserError, match="there is no bucket 'elsewhere'"):
        read_rows(open_workspace("gs://elsewhere/study"))
