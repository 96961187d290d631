"""Every command of docs/scale.md is one that this command line takes; some of them are run."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click
import pytest
import yaml
from pages import ROOT, blocks

from segbench.cli import main

PAGE = ROOT / "docs" / "scale.md"
LINES = re.findall(r"segbench (\w+(?: grid\.toml)?(?: [^\n#`]*)?)", "\n".join(
    text for language in ("sh", "bash", "console") for text in blocks(PAGE, language)
))  # fmt: skip
LAPTOP, WORKSTATION, SLURM, RAY, STORE = blocks(PAGE, "sh")


@pytest.mark.parametrize("line", LINES)
def test_a_command_of_the_page_is_taken(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "grid.toml").write_text("")
    filled = re.sub(r"\$\(\(.*?\)\)|\$SLURM_ARRAY_TASK_ID|\{\}", "3", line)
    filled = re.sub(r"\{=.*?=\}", "0", filled).replace("$SHARED", str(tmp_path))
    name, *words = shlex.split(filled)
    command = main.get_command(click.Context(main), name)
    assert command is not None
    context = command.make_context(name, words)
    assert name in ("list", "report") or str(context.params["grid"]) == "grid.toml"


def test_the_page_has_commands_and_each_place_has_ten_lines_at_most() -> None:
    assert len(LINES) >= 15
    [kubernetes] = blocks(PAGE, "yaml")
    for block in (LAPTOP, WORKSTATION, SLURM, RAY, STORE, kubernetes):
        assert len(block.splitlines()) <= 10


def test_the_job_of_kubernetes_is_whole() -> None:
    [text] = blocks(PAGE, "yaml")
    job: dict[str, Any] = yaml.safe_load(text)
    assert (job["apiVersion"], job["kind"]) == ("ray.io/v1", "RayJob")
    cluster = job["spec"]["rayClusterSpec"]
    [workers] = cluster["workerGroupSpecs"]
    for group in (cluster["headGroupSpec"], workers):
        pod = group["template"]["spec"]
        [container] = pod["containers"]
        assert container["resources"]["limits"]["nvidia.com/gpu"] == 1
        [mount] = container["volumeMounts"]
        assert [volume["name"] for volume in pod["volumes"]] == [mount["name"]]
        assert f"cd {mount['mountPath']}" in job["spec"]["entrypoint"]


def shell(text: str, folder: Path) -> str:
    """What a block says, run line by line as a user would; the first that fails ends it."""
    tools = f"{folder / 'bin'}:{Path(sys.executable).parent}"
    done = subprocess.run(
        ["bash", "-e"], input=text, cwd=folder, capture_output=True, text=True, timeout=400,
        env=os.environ | {"PATH": f"{tools}:{os.environ['PATH']}",
                          "SEGBENCH_CONFIG_DIR": str(folder / "config")},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="runs bash, and a stand-in for SLURM")
def test_the_page_runs_from_the_laptop_to_the_cluster(tmp_path: Path) -> None:
    """Where there is no GPU, ``all`` devices are the processor; SLURM has a stand-in."""
    tools = tmp_path / "bin"
    tools.mkdir()
    for name, does in (("srun", ""), ("sbatch", "echo Submitted batch job 1"), ("squeue", "")):
        (tools / name).write_text(f"#!/bin/sh\n{does}\n")
        (tools / name).chmod(0o755)
    said = shell(LAPTOP, tmp_path)
    assert "30 scores computed" in said
    assert "0 scores computed, 30 found" in " ".join(said.split())
    more = re.sub(r"^eps = .*$", 'eps = ["2/255", "8/255", "16/255"]', LAPTOP, flags=re.M)
    (tmp_path / "grid.toml").write_text(more.split("END\n")[1])
    without_pip = "\n".join(line for line in SLURM.splitlines() if not line.startswith("pip"))
    if find_spec("submitit"):
        said = shell(without_pip, tmp_path)
        assert "#SBATCH --partition=gpu" in said
        assert "as job 1" in said
    said = shell(WORKSTATION, tmp_path)
    assert "4 workers, longest piece first" in said
    assert "12 scores computed, 30 found" in " ".join(said.split())
    if find_spec("ray"):
        local = [line for line in RAY.splitlines() if line.startswith("segbench")]
        assert "0 scores computed, 42 found" in " ".join(shell(local[-1], tmp_path).split())


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="runs bash")
def test_the_page_runs_on_a_workspace_in_an_object_store(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("s3fs")
    moto, boto3 = pytest.importorskip("moto.server"), pytest.importorskip("boto3")
    server = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("SEGBENCH_CACHE_DIR", str(tmp_path / "cache"))
    who = {"aws_access_key_id": "somebody", "aws_secret_access_key": "secret"}
    boto3.client("s3", endpoint_url=address, **who).create_bucket(Bucket="results")
    (tmp_path / "grid.toml").write_text(LAPTOP.split("END\n")[1])
    lines = [line for line in STORE.splitlines() if not line.startswith("pip")]
    said = shell("\n".join(lines).replace("http://127.0.0.1:9000", address), tmp_path)
    server.stop()
    assert "30 scores computed, 0 found in s3://results/study/results" in " ".join(said.split())
    assert "run-00002  done" in said
    assert (tmp_path / "tables" / "report.html").exists()
