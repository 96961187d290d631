"""Libraries that only some networks need, where they are not installed or do not import."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from segbench.data import open_dataset
from segbench.errors import MachineError, UserError
from segbench.networks.imported import read_import
from segbench.networks.libraries import import_library

DATA = "phantom-skin:size=32,train_cases=2,test_cases=2"
BROKEN = """
try:
    raise RuntimeError("operator torchvision::nms does not exist\\nat all")
except RuntimeError as error:
    raise ModuleNotFoundError("Could not import it") from error
"""


def test_one_that_is_not_installed_is_a_sentence_with_the_command() -> None:
    with pytest.raises(UserError, match=r"no_such_library is not installed; run pip install 'seg"):
        import_library("no_such_library.part", "smp")


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("1 / 0", r"is installed but does not import \(ZeroDivisionError: division by zero\)$"),
        ("import no_such", r"does not import \(ModuleNotFoundError: No module named 'no_such'\)$"),
        (BROKEN, rf"nms does not exist\); the torchvision .* than {re.escape(torch.__version__)}"),
    ],
)
def test_one_that_is_broken_is_said_to_be_with_the_first_cause(
    code: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = f"broken_library_{abs(hash(code))}"
    (tmp_path / f"{name}.py").write_text(code)
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MachineError, match=words) as caught:
        import_library(name, "smp")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("kind", "module"), [("smp", "segmentation_models_pytorch"), ("hf", "transformers")]
)
def test_a_folder_whose_library_is_absent_is_refused_with_the_command(
    kind: str, module: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config: dict[str, Any] = {
        "_model_class": "Unet", "architectures": ["SegformerForSemanticSegmentation"],
    }  # fmt: skip
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "model.safetensors").touch()
    monkeypatch.setitem(sys.modules, module, None)
    reference = read_import(f"{kind}:{tmp_path}")
    assert reference is not None
    with pytest.raises(UserError, match=rf"{module} is not installed; .*segbench\[{kind}\]"):
        reference.load(open_dataset(DATA, None))
