"""Families of libraries that segbench installs only as extras, where they are not installed."""

import sys
from pathlib import Path

import pytest

from segbench.errors import MachineError, UserError
from segbench.plugins import registry
from segbench_models.extras import import_extra


@pytest.mark.parametrize(
    ("family", "module"), [("smp", "segmentation_models_pytorch"), ("hf", "transformers")]
)
def test_a_missing_extra_is_one_sentence_with_the_command(
    family: str, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UserError, match=rf"run pip install 'segbench\[{family}\]'"):
        registry.load("models", f"{family}/NoSuchNetwork")


@pytest.mark.parametrize("line", ["import no_such_module", "1 / 0"])
def test_an_extra_that_is_installed_and_broken_is_not_said_to_be_missing(
    line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"broken_{len(line)}"
    (tmp_path / f"{name}.py").write_text(line)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MachineError, match="broken is installed but does not import"):
        import_extra(name, package="broken", extra="x")
