"""What tests of several rooms share: seeds, strangers' plug-ins, and rows as the store has them."""

from __future__ import annotations

import gc
import os
import socket
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import strict_skips
from strict_skips import pytest_configure
from torchvision_operators import declare_where_missing

from segbench.store import rowfile

__all__ = ["pytest_configure"]  # hooks are found here by their names

# Two workers share the machine: one thread each, here and in what they start, is faster than two
# that wait for each other. Before torch is imported, which reads it once.
os.environ.setdefault("OMP_NUM_THREADS", "1")
declare_where_missing()

Row = dict[str, Any]


def pytest_addoption(parser: pytest.Parser) -> None:
    """``--strict-skips``; and what tests marked ``gpu`` run on, ``cpu`` to try the tests."""
    strict_skips.pytest_addoption(parser)
    parser.addoption("--device", default="cuda", help="Where tests marked gpu run. [cuda]")


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Iterator[None]:
    """What is collected stays for the session and is never looked through for garbage."""
    gc.disable()
    try:
        result = yield
    finally:
        gc.enable()
    gc.freeze()
    return result


@pytest.fixture
def device(request: pytest.FixtureRequest) -> Any:
    """The accelerator; a ``torch.device``."""
    import torch

    chosen = torch.device(request.config.getoption("device"))
    if chosen.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("needs an accelerator")
    return chosen


@pytest.fixture(autouse=True, scope="session")
def nobodys_settings(tmp_path_factory: pytest.TempPathFactory) -> None:
    """What is remembered between commands is the session's, and never that of whoever runs it."""
    os.environ["SEGBENCH_CONFIG_DIR"] = str(tmp_path_factory.mktemp("config"))


@pytest.fixture(autouse=True)
def seeded() -> None:
    """Every test begins at the same random numbers, whatever ran before it in its process."""
    import torch

    torch.default_generator.manual_seed(0)  # ``torch.manual_seed`` notes the stack for no device
    if torch.cuda.is_available():
        torch.cuda.manual_seed_all(0)


@pytest.fixture
def offline(monkeypatch: pytest.MonkeyPatch) -> None:
    """A test in which whatever tries the network fails."""

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("a network connection was tried")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)


@pytest.fixture
def prepared() -> Callable[..., Any]:
    """A module made ready, in fp32 or bf16 whatever this machine prefers."""

    def make(module: Any, images: Any, classes: int = 2, precision: Any = "fp32") -> Any:
        import torch

        from segbench.engine.network import Network
        from segbench.engine.precision import Precision

        wanted = Precision(precision, "the test asks for it")
        network = Network("net", module, classes, torch.device("cpu"), wanted)
        network.prepare(images[:2])
        return network

    return make


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., None]]:
    """Distributions that exist for one test: a module and its entry points."""
    from segbench.plugins import registry

    def forget() -> None:
        registry.load.cache_clear()
        registry._points.cache_clear()

    def add(name: str, points: str, source: str = "", version: str = "1.2") -> None:
        root = tmp_path / name
        info = root / f"{name}-{version}.dist-info"
        info.mkdir(parents=True)
        info.joinpath("METADATA").write_text(
            f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        )
        info.joinpath("entry_points.txt").write_text(points)
        root.joinpath(f"{name}_code.py").write_text(source)
        monkeypatch.syspath_prepend(str(root))
        forget()

    yield add
    for module in [m for m in sys.modules if m.endswith("_code")]:
        del sys.modules[module]
    forget()


@pytest.fixture(scope="session")
def row() -> Callable[..., Row]:
    """One complete row, with whatever is given put in."""

    def make(**given: Any) -> Row:
        values = {
            "model": "unet@jsrt#0",
            "weights_sha256": "ab" * 32,
            "network_sha256": "ab" * 32,
            "dataset": "jsrt",
            "dataset_fingerprint": "cd" * 32,
            "split": "test",
            "case_id": "case-000",
            "case_sha256": "case-000",
            "group_id": "patient-000",
            "class_id": 1,
            "class_name": "lung",
            "attack": "pgd",
            "attack_params": '{"restarts": 1, "steps": 40}',
            "attack_sha256": "ef" * 32,
            "budget_kind": "linf",
            "budget": 8 / 255,
            "seed": 0,
            "jaccard": 0.5,
            "dice": 2 / 3,
            "accuracy": 0.9,
            "sensitivity": 0.8,
            "specificity": 0.95,
            "false_positives": 12,
            "hd95": float("nan"),
            "nsd": float("nan"),
            "nsd_tolerance": float("nan"),
            "pixel_mm": float("nan"),
            "lesions": float("nan"),
            "lesions_found": float("nan"),
            "lesions_false": float("nan"),
            "lesion_overlap": float("nan"),
            "target_jaccard": float("nan"),
            **dict.fromkeys(rowfile.CERTIFIED, float("nan")),
            "linf": 8 / 255,
            "l2": 3.0,
            "forwards": 41,
            "backwards": 40,
            "zero_gradients": 0.0,
            "late_gain": float("nan"),
            "member": "",
            "seconds": 0.25,
            "precision": "fp32",
            "gradient_check": "",
            "device": "cpu",
            "marks": "",
        }
        assert list(values) == list(rowfile.COLUMNS)
        assert given.keys() <= values.keys()
        # Another network, or case, unless the test says that it is the same.
        given.setdefault("network_sha256", given.get("weights_sha256", values["network_sha256"]))
        given.setdefault("case_sha256", given.get("case_id", values["case_sha256"]))
        return values | given

    return make


@pytest.fixture(scope="session")
def frame() -> Callable[..., pd.DataFrame]:
    """Rows as ``read_rows`` returns them; every point of every curve a cell of its own."""

    def make(rows: Sequence[Row], run: int = 1) -> pd.DataFrame:
        table = pd.DataFrame(list(rows))
        return table.assign(cell="0" * 32, run=run, created=1.0)

    return make


@pytest.fixture(scope="session")
def grid_rows(row: Callable[..., Row]) -> Callable[..., list[Row]]:
    """A grid: clean once per model, then every attack at every eps; two slices per patient."""

    def make(
        models: Sequence[str] = ("nlcen@jsrt#0", "unet@jsrt#0"),
        attacks: Sequence[str] = ("ifgsm", "pgd"),
        budgets: Sequence[float] = (2 / 255, 8 / 255),
        patients: int = 12,
        **given: Any,
    ) -> list[Row]:
        rows = []
        for m, model in enumerate(models):
            skill = np.random.default_rng(m).normal(0.95 - 0.02 * m, 0.01, size=2 * patients)
            points = [("clean", 0.0)] + [(a, b) for a in attacks for b in budgets]
            for attack, budget in points:
                strength = 0 if attack == "clean" else 6 + 2 * attacks.index(attack)
                for case, level in enumerate(skill):
                    jaccard = float(level * np.exp(-strength * budget))
                    rows.append(
                        row(
                            **{
                                "model": model,
                                "weights_sha256": f"{m + 1:02x}" * 32,
                                "case_id": f"case-{case:03d}",
                                "group_id": f"patient-{case // 2:03d}",
                                "attack": attack,
                                "attack_params": "{}" if attack == "clean" else '{"steps": 40}',
                                "budget_kind": "none" if attack == "clean" else "linf",
                                "budget": float(budget),
                                "linf": float(budget),
                                "jaccard": jaccard,
                                "dice": 2 * jaccard / (1 + jaccard),
                                **given,
                            }
                        )
                    )
        return rows

    return make


@pytest.fixture(scope="session")
def grid_tables(grid_rows: Callable[..., list[Row]], frame: Callable[..., pd.DataFrame]) -> Any:
    """All tables of a grid, for tests that only read them."""
    from segbench.tables.build import build_tables

    return build_tables(frame(grid_rows()))


@pytest.fixture
def run_record() -> Callable[..., Any]:
    """A run's record, with whatever is given put in."""
    from segbench.store.runs import RunRecord

    def make(**given: Any) -> RunRecord:
        known = {
            "number": 1,
            "started": "2026-01-01T00:00:00Z",
            "host": "host",
            "pid": 1,
            "argv": ("segbench", "attack"),
            "options": {},
            "versions": {},
            "device": "cpu",
            "threads": 1,
        }
        return RunRecord.model_validate(known | given)

    return make
