"""One run: every model of a grid through an executor, recorded and compacted at its end."""

from __future__ import annotations

import platform
import secrets
import subprocess
import time
from collections.abc import Sequence
from fractions import Fraction
from importlib.metadata import version
from itertools import product
from pathlib import Path
from typing import Any

import torch

from segbench import __version__
from segbench.engine.precision import choose_device, device_name
from segbench.evaluation.goals import check_goal
from segbench.evaluation.grid import Grid
from segbench.evaluation.model_run import run_model
from segbench.evaluation.request import DataSource, Listener, Options
from segbench.networks import ModelReference
from segbench.store.rows import compact_run, write_run
from segbench.store.workspace import Workspace, check_writable


def run_grid(
    models: Sequence[tuple[ModelReference, DataSource]],
    grid: Grid,
    workspace: Workspace,
    options: Options,
    listener: Listener,
) -> str:
    """Evaluate the grid on each model and its data; the run's id.

    What is finished stays finished: whatever stops a run, the shards it wrote are kept and the
    same command goes on from there.
    """
    check_writable(workspace.root)
    for (_, data), attack in product(models, grid.attacks):
        check_goal(data, attack)
    started = time.time()
    run_id = f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(started))}-{secrets.token_hex(3)}"
    cells: list[str] = []
    for reference, data in models:
        cells += run_model(reference, data, grid, workspace, options, listener)
    record = {
        "grid": describe_grid(models, grid, options),
        "cells": cells,
        "seconds": round(time.time() - started, 3),
        **describe_machine(options),
    }
    write_run(workspace, run_id, record)
    compact_run(workspace, run_id, set(cells))
    return run_id


def describe_grid(
    models: Sequence[tuple[ModelReference, DataSource]], grid: Grid, options: Options
) -> dict[str, Any]:
    """The grid as it was asked for, for the run's record."""
    return {
        "models": [reference.name for reference, _ in models],
        "data": [
            {"spec": data.spec, "split": data.split, "cases": len(data.entries)}
            for _, data in models
        ],
        "attacks": {attack.label: attack.parameters for attack in grid.attacks},
        "eps": [Fraction(eps) for eps in grid.eps],
        "seeds": list(grid.seeds),
        "precision": options.precision,
        "batch_size": options.batch_size or "auto",
    }


def describe_machine(options: Options) -> dict[str, Any]:
    """Versions, hardware and the git commit of the current folder, for the run's record."""
    device = choose_device(options.device)
    names = ("torch", "numpy", "monai", "adversarial-robustness-toolbox")
    return {
        "versions": {"segbench": __version__, "python": platform.python_version()}
        | {name: version(name) for name in names},
        "device": device_name(device),
        "threads": torch.get_num_threads(),
        "git_commit": _git_commit(Path.cwd()),
    }


def _git_commit(folder: Path) -> str | None:
    try:
        found = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return found.stdout.strip() if found.returncode == 0 else None
