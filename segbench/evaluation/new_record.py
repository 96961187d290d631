"""What a run's record says when it begins: what was asked for, by whom, and with what."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from pydantic_core import to_jsonable_python

from segbench import __version__
from segbench.engine.precision import choose_device, device_name
from segbench.evaluation.grid import Grid
from segbench.evaluation.request import DataSource, Options
from segbench.networks import ModelReference
from segbench.store.alive import this_process
from segbench.store.runs import Code, RunRecord, now


def new_record(
    models: Sequence[tuple[ModelReference, DataSource]],
    grid: Grid,
    options: Options,
    argv: Sequence[str],
) -> RunRecord:
    """The record of a run that is about to begin; ``argv`` is its command, where it was one."""
    names = ("torch", "numpy", "monai", "adversarial-robustness-toolbox")
    folders = {Path(m).parent for r, _ in models if (m := _own_file(r))}
    process = this_process()
    return RunRecord(
        started=now(),
        host=process.host,
        pid=process.pid,
        machine=process.machine,
        process_started=process.started,
        argv=tuple(argv),
        options=to_jsonable_python(asdict(options), fallback=str) | describe_grid(models, grid),
        versions={"segbench": __version__, "python": platform.python_version()}
        | {name: version(name) for name in names},
        device=device_name(choose_device(options.device)),
        threads=torch.get_num_threads(),
        code=tuple(code for folder in sorted(folders) if (code := _code(folder))),
    )


def describe_grid(
    models: Sequence[tuple[ModelReference, DataSource]], grid: Grid
) -> dict[str, Any]:
    """The grid as it was asked for, in plain values."""
    return {
        "models": [reference.name for reference, _ in models],
        "data": [
            {"spec": data.spec, "split": data.split, "cases": len(data.entries)}
            for _, data in models
        ],
        "attacks": {attack.label: attack.parameters for attack in grid.attacks},
        "certificates": [certificate.facts for certificate in grid.certificates],
        "eps": [str(eps) for eps in grid.eps],
        "seeds": list(grid.seeds),
    }


def _own_file(reference: ModelReference) -> str | None:
    """The file of a network of the user's own."""
    module = getattr(reference, "module", None)
    return module if isinstance(module, str) and Path(module).is_file() else None


def _code(folder: Path) -> Code | None:
    """The commit of the project that a folder lies in, None where it lies in none."""
    commit = _git(folder, "rev-parse", "HEAD")
    if commit is None:
        return None
    top = _git(folder, "rev-parse", "--show-toplevel")
    return Code(
        folder=top or str(folder),
        commit=commit,
        dirty=bool(_git(folder, "status", "--porcelain", "--untracked-files=no")),
    )


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
