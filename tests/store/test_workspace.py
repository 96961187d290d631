"""Where a workspace may lie: a folder or a known store; what is half a URL is neither."""

from __future__ import annotations

from pathlib import Path

import pytest
from click.testing import CliRunner

from segbench.cli import main
from segbench.errors import UserError
from segbench.store.workspace import Workspace, open_workspace


@pytest.mark.parametrize(
    ("text", "meant"),
    [
        ("s3:/bucket/x", "s3://bucket/x"),
        ("S3:/bucket/x", "s3://bucket/x"),
        ("s3:bucket", "s3://bucket"),
        ("gs:/bucket", "gs://bucket"),
        ("memory:/one", "memory://one"),
        ("https:/host/x", "https://host/x"),
        ("file:/runs", "file://runs"),
    ],
)
def test_half_a_url_is_refused_with_what_was_meant(text: str, meant: str) -> None:
    with pytest.raises(UserError, match=f"did you mean {meant}[?]"):
        open_workspace(text)


@pytest.mark.parametrize(
    "text", ["runs", "./s3:/bucket", "C:/runs", "s3", "a/s3:/b", "study:2/runs", "/s3:/x"]
)
def test_a_folder_is_a_folder(text: str) -> None:
    assert open_workspace(text) == Workspace(Path(text))


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("report --workspace s3:/bucket/x", "did you mean s3://bucket/x?"),
        ("leaderboard gs:/bucket/x", "did you mean gs://bucket/x?"),
        ("report --out s3://bucket/x", "'s3://bucket/x' is a URL; expected a folder"),
        ("export --out gs:/bucket/x", "'gs:/bucket/x' is a URL; expected a folder"),
        ("check --golden s3://bucket/golden.csv --update", "is a URL; expected a file"),
    ],
)
def test_no_folder_is_made_of_a_url(
    line: str, said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = CliRunner().invoke(main, line.split())
    assert done.exit_code == 2
    assert said in " ".join(done.output.split())
    assert not [*tmp_path.iterdir()]
