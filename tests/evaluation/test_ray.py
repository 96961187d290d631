"""A pool of Ray's, on one machine or on two nodes of which one dies: the rows of one process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from click.testing import CliRunner

from segbench.cli import main
from segbench.errors import MachineError, UserError
from segbench.evaluation.executors.ray_cluster import share_out
from segbench.evaluation.records import validated
from segbench.evaluation.request import Request
from segbench.store import rowfile
from segbench.store.rows import read_rows
from segbench.store.runs import read_runs
from segbench.store.workspace import Workspace

SAME = [name for name in rowfile.COLUMNS if name != "seconds"]
NETWORK = """
import os, pathlib, time
import torch
from torch import nn

class Dark(nn.Module):
    def forward(self, images):
        if seen := os.environ.get("SEGBENCH_TEST_SEEN"):
            pathlib.Path(seen, str(os.getpid())).touch()
            time.sleep(0.1)
        bad = os.environ.get("SEGBENCH_TEST_BAD")
        if bad and any(abs(float(one.detach().mean()) - float(bad)) < 1e-6 for one in images):
            os._exit(5)
        return 12 * (0.5 - nn.functional.avg_pool2d(images, 5, 1, 2))

def build():
    return Dark()
"""
DATA = "phantom-cxr:size=32,train_cases=6,test_cases=5"
FEW = ["-a", "pgd:steps=2", "--eps", "4/255"]
MANY = ["-a", "pgd:steps=2", "-a", "uap:epochs=1,batch=3", "--eps", "2/255,4/255,6/255,8/255"]
ALWAYS = ["--dataset", DATA, "--precision", "fp32", "--batch-size", "1", "--no-pictures"]


def command(root: Path, *more: str) -> list[str]:
    file = root.parent / "net.py"
    file.write_text(NETWORK)
    return [sys.executable, "-m", "segbench", "attack", "-m", f"{file}:build", *ALWAYS,
            "--workspace", str(root), *more]  # fmt: skip


def run(root: Path, *more: str) -> str:
    done = CliRunner().invoke(main, command(root, *more)[3:])
    assert done.exit_code == 0, done.output
    return done.output


def rows(root: Path) -> pd.DataFrame:
    return read_rows(Workspace(root))[SAME]


def test_a_worker_of_rays_gives_the_rows_of_one_process(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    run(tmp_path / "one", *FEW)
    asked = command(tmp_path / "ray", *FEW, "--executor", "ray", "--workers", "1")
    done = subprocess.run(asked, capture_output=True, cwd=tmp_path, timeout=240)
    assert done.returncode == 0, done.stderr.decode()
    assert b"10 scores computed" in done.stdout
    pd.testing.assert_frame_equal(rows(tmp_path / "one"), rows(tmp_path / "ray"))


@pytest.fixture
def nodes() -> Iterator[tuple[str, Callable[[], None]]]:
    """Two nodes of one core on loopback: their address, and what kills the second."""
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    node: dict[str, Any] = {"num_cpus": 1, "object_store_memory": 2**27}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    second = cluster.add_node(**node)
    try:
        yield cluster.address, lambda: cluster.remove_node(second, allow_graceful=False)
    finally:
        cluster.shutdown()


def workers_of(process: subprocess.Popen[bytes], seen: Path, count: int) -> list[int]:
    """Those that have asked their network something, once there are so many; it asks too."""
    while True:
        found = [int(path.name) for path in seen.iterdir() if int(path.name) != process.pid]
        if len(found) >= count:
            return found
        assert process.poll() is None, process.communicate()
        time.sleep(0.1)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="Ray's test cluster is for Linux")
@pytest.mark.filterwarnings("ignore")  # Ray's own, in the process that holds the nodes
@pytest.mark.parametrize("what", ["node", "worker"])
def test_a_node_or_a_worker_that_is_killed_loses_nothing_and_doubles_nothing(
    tmp_path: Path, nodes: tuple[str, Callable[[], None]], what: str
) -> None:
    address, kill_second = nodes
    run(tmp_path / "one", *MANY)
    seen = tmp_path / "seen"
    seen.mkdir()
    settings = {"RAY_ADDRESS": address, "SEGBENCH_TEST_SEEN": str(seen)}
    with subprocess.Popen(
        command(tmp_path / "ray", *MANY, "--executor", "ray"), stderr=subprocess.STDOUT,
        stdout=subprocess.PIPE, env=os.environ | settings, cwd=tmp_path,
    ) as process:  # fmt: skip
        pids = workers_of(process, seen, 2)
        shards = tmp_path / "ray" / "results" / "shards"
        while len(list(shards.glob("*.parquet"))) < 3:
            time.sleep(0.1)
        if what == "node":
            kill_second()
        else:
            os.kill(pids[0], signal.SIGKILL)
        said = process.communicate(timeout=200)[0].decode()
    assert process.returncode == 0, said
    assert "45 scores computed" in said
    [record] = read_runs(Workspace(tmp_path / "ray"))
    assert (record.status, record.failures) == ("done", ())
    assert len(workers_of(process, seen, 2)) >= (3 if what == "worker" else 2)
    pd.testing.assert_frame_equal(rows(tmp_path / "one"), rows(tmp_path / "ray"))


@pytest.mark.slow
def test_a_case_that_ends_its_actor_is_named_and_costs_nothing_else(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    from segbench.data import open_dataset

    dataset = open_dataset(DATA, None)
    bad = float(dataset.load(dataset.entries("test")[2].case_id).image.mean())
    asked = command(tmp_path / "ray", *FEW, "--executor", "ray", "--workers", "1")
    settings = {"SEGBENCH_TEST_BAD": str(bad)}
    done = subprocess.run(asked, capture_output=True, cwd=tmp_path, env=os.environ | settings)
    assert done.returncode == 3, done.stderr.decode()
    [record] = read_runs(Workspace(tmp_path / "ray"))
    assert {failure.case_id for failure in record.failures} == {"cxr-test-00002"}
    assert all("ended the process" in failure.reason for failure in record.failures)
    assert len(rows(tmp_path / "ray")) == 10 - len(record.failures)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="sends a signal")
def test_a_signal_ends_a_pool_of_rays_with_its_status_and_a_word(tmp_path: Path) -> None:
    pytest.importorskip("ray")
    asked = command(tmp_path / "ray", "-a", "pgd:steps=100000", "--eps", "4/255", "--executor",
                    "ray", "--workers", "1")  # fmt: skip
    with subprocess.Popen(asked, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as process:
        while process.poll() is None and not list((tmp_path / "ray").glob("results/shards/*")):
            time.sleep(0.1)
        process.send_signal(signal.SIGTERM)
        output = process.communicate()[0].decode()
    assert process.returncode == 128 + signal.SIGTERM, output
    assert "ended by SIGTERM; everything finished is kept" in " ".join(output.split())
    [record] = read_runs(Workspace(tmp_path / "ray"))
    assert (record.status, record.reason) == ("interrupted", "SIGTERM")


class Cluster:
    """What a pool asks of Ray before it begins."""

    def __init__(self, *nodes: dict[str, float]) -> None:
        self._nodes = [{"Alive": True, "Resources": node} for node in nodes]

    def nodes(self) -> list[dict[str, Any]]:
        return self._nodes


@pytest.mark.parametrize(
    ("nodes", "asked", "workers", "device", "threads", "gpus"),
    [
        ([{"CPU": 16, "GPU": 4}, {"CPU": 16, "GPU": 4}], {}, 8, "cuda", 4, 1),
        ([{"CPU": 16, "GPU": 2}], {"workers": 4}, 4, "cuda", 4, 0.5),
        ([{"CPU": 16, "GPU": 2}], {"device": "cpu", "workers": 3}, 3, "cpu", 5, 0),
        ([{"CPU": 8}, {"CPU": 6}], {}, 3, "cpu", 4, 0),
        ([{"CPU": 3}, {"CPU": 5}], {"workers": 2}, 2, "cpu", 3, 0),
        ([{"CPU": 2}], {}, 1, "cpu", 2, 0),
    ],
)
def test_a_pool_takes_the_gpus_of_a_cluster_or_else_its_cores_in_groups(
    nodes: list[dict[str, float]], asked: dict[str, Any], workers: int, device: str, threads: int,
    gpus: float,
) -> None:  # fmt: skip
    share = share_out(Cluster(*nodes), validated(Request, asked))
    assert share.workers == workers
    assert (share.seat.device, share.seat.threads) == (device, threads)
    assert share.gpus == gpus
    assert share.cpus * workers <= sum(node["CPU"] for node in nodes)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"workers": 9}, "workers = 9; the cluster has 8 cores"),
        ({"device": "cuda"}, "device cuda: the nodes of the cluster have no GPU"),
    ],
)
def test_what_a_cluster_has_no_room_for_is_one_sentence(asked: dict[str, Any], said: str) -> None:
    with pytest.raises(UserError, match=said):
        share_out(Cluster({"CPU": 8}), validated(Request, {"executor": "ray", **asked}))


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({}, "needs Ray, which is not installed: pip install 'segbench[ray]'"),
        ({"RAY_ADDRESS": "127.0.0.1:9"}, "there is no Ray at RAY_ADDRESS=127.0.0.1:9"),
    ],
)
def test_where_there_is_no_ray_it_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, settings: dict[str, str], said: str
) -> None:
    from segbench.evaluation.executors import ray_cluster

    class Ray:
        def is_initialized(self) -> bool:
            return False

        def init(self, address: str, **more: Any) -> None:
            raise ConnectionError(f"Failed to connect to {address}\nand more of it")

    monkeypatch.setitem(sys.modules, "ray", Ray() if settings else None)  # type: ignore[arg-type]
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError) as refused:
        ray_cluster.join_cluster(None)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_pool_waits_for_room_but_not_for_nodes_that_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segbench.evaluation.executors import ray_actors

    cluster = Cluster({"CPU": 2})
    monkeypatch.setattr(ray_actors, "join_cluster", lambda workers: (cluster, False))
    monkeypatch.setattr(ray_actors, "_PATIENCE", -1.0)
    pool = ray_actors.RayActors(validated(Request, {"executor": "ray"}), Workspace(tmp_path), run=1)
    said: list[tuple[str, Any]] = []

    class Told:
        def begin(self, piece: Any) -> None: ...

        def tell(self, word: str, value: Any) -> None:
            said.append((word, value))

    pool._say_waiting(Told())
    assert said == [("busy", "waiting for Ray to have room for a worker (2 CPU)")]
    cluster.nodes()[0]["Alive"] = False
    with pytest.raises(MachineError, match="every node of Ray's is gone"):
        pool._say_waiting(Told())
