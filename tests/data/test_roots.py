"""Where data sets lie is remembered, atomically, and only where it is used."""

import os
from pathlib import Path

import pytest

from segbench.data import load_dataset, remember_root, remembered_root
from segbench.errors import MachineError, UserError


@pytest.fixture(autouse=True)
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SEGBENCH_CONFIG_DIR", str(tmp_path / "config"))
    return tmp_path / "config"


def test_what_is_remembered_comes_back_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, config: Path
) -> None:
    assert remembered_root("jsrt") is None
    monkeypatch.chdir(tmp_path)
    remember_root("jsrt", Path("here"))
    remember_root("msd", tmp_path)
    assert remembered_root("jsrt") == tmp_path / "here"
    assert remembered_root("msd") == tmp_path
    assert os.listdir(config) == ["data-roots.json"]


def test_load_dataset_falls_back_on_what_is_remembered(tmp_path: Path) -> None:
    remember_root("jsrt", tmp_path / "gone")
    with pytest.raises(UserError, match=r"gone.* does not exist"):
        load_dataset("jsrt")


def test_a_damaged_file_is_named(config: Path) -> None:
    config.mkdir()
    for text in ("{", "[]", '{"jsrt": 3}'):
        (config / "data-roots.json").write_text(text)
        with pytest.raises(UserError, match=r"data-roots\.json"):
            remembered_root("jsrt")


def test_a_place_that_cannot_be_written_is_the_machines_fault(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEGBENCH_CONFIG_DIR", str(tmp_path / "file" / "config"))
    with pytest.raises((MachineError, UserError), match=r"data-roots\.json"):
        remember_root("jsrt", tmp_path)


def test_a_root_for_generated_data_and_unknown_options_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="leave out --data-root"):
        load_dataset("phantom-cxr", tmp_path)
    with pytest.raises(UserError, match="did you mean 'jsrt'"):
        load_dataset("jsrtt", tmp_path)
    with pytest.raises(UserError, match="no parameter 'root'"):
        load_dataset("jsrt:root=x", tmp_path)
