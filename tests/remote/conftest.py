"""An object server on loopback, and machines: each a copy of its own, as its cache has it."""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from segbench.cli import main
from segbench.store.workspace import Workspace, open_workspace

Machine = Callable[[str], None]


@pytest.fixture(scope="session")
def server() -> Iterator[str]:
    """Its address."""
    pytest.importorskip("s3fs")
    moto = pytest.importorskip("moto.server")
    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    thread = moto.ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    thread.start()
    yield "http://{}:{}".format(*thread.get_host_and_port())
    thread.stop()


@pytest.fixture
def bucket(server: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a new one, which this process may use; nothing of the user's is asked."""
    import boto3

    monkeypatch.setenv("AWS_ENDPOINT_URL", server)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    monkeypatch.setenv("AWS_DEFAULT_REGION", "us-east-1")
    monkeypatch.setenv("AWS_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", os.devnull)
    monkeypatch.setenv("SEGBENCH_CACHE_DIR", str(tmp_path / "here"))
    name = f"b{abs(hash(tmp_path)):x}"
    boto3.client("s3").create_bucket(Bucket=name)
    return name


@pytest.fixture
def store(bucket: str) -> Any:
    """The bucket as someone else sees it."""
    import boto3

    return boto3.resource("s3").Bucket(bucket)


@pytest.fixture
def url(bucket: str) -> str:
    """A workspace in it."""
    return f"s3://{bucket}/study"


@pytest.fixture
def machine(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str
) -> Callable[[str], Workspace]:
    """The workspace as a machine of that name has it."""

    def on(name: str) -> Workspace:
        monkeypatch.setenv("SEGBENCH_CACHE_DIR", str(tmp_path / name))
        return open_workspace(url)

    return on


@pytest.fixture
def call() -> Callable[..., Result]:
    """``call("report", "--workspace", url)`` in this process."""

    def invoke(*words: object) -> Result:
        return CliRunner().invoke(main, [str(word) for word in words])

    return invoke
