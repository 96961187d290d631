"""segbench doctor: the machine, the accelerator, the chosen precision, and why."""

from __future__ import annotations

import os
import platform
import shutil
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from importlib.metadata import version

import click

from segbench import __version__
from segbench.cli.options import device_option, workspace_option
from segbench.cli.terminal import say
from segbench.errors import MachineError, UserError
from segbench.plugins import registry
from segbench.plugins.attack import load_attack
from segbench.store.workspace import Workspace, check_writable


@click.command("doctor")
@device_option
@workspace_option
@click.pass_context
def command(ctx: click.Context, device: str | None, workspace: Workspace) -> None:
    """Say what segbench will compute with, and whether every plug-in is fit for use.

    Exit status 3 if something is broken.

    \b
    segbench doctor
    """
    import torch

    from segbench.engine.precision import choose_device, choose_precision, device_name

    chosen = choose_device(device)
    precision = choose_precision(chosen, "auto")
    facts = {
        "segbench": f"{__version__} on Python {platform.python_version()}, {platform.platform()}",
        "packages": ", ".join(f"{p} {version(p)}" for p in ("torch", "monai", "numpy", "pandas")),
        "device": f"{chosen} ({device_name(chosen)})",
        "threads": f"{torch.get_num_threads()} of {os.cpu_count()} processors",
        "gradients": f"{precision.name}: {precision.reason}",
        "scores": "fp32, TF32 off, by the original network",
        "workspace": _workspace_state(workspace),
    }
    for name, fact in facts.items():
        say(f"{name:<11} {fact}")
    broken = _broken_plugins()
    for message in broken:
        say(f"{'broken':<11} {message}")
    if broken:
        ctx.exit(3)


def _workspace_state(workspace: Workspace) -> str:
    if workspace.mirror:
        return _copy_state(workspace)
    folder = workspace.root.absolute()
    existing = next(p for p in (folder, *folder.parents) if p.exists())
    free = shutil.disk_usage(existing).free / 2**30
    state = "writable" if os.access(existing, os.W_OK) else "NOT writable"
    return f"{workspace.root} ({state}, {free:.0f} GiB free)"


def _copy_state(workspace: Workspace) -> str:
    """Whether its store can be reached and written, and where the copy lies."""
    try:
        check_writable(workspace.root)
        state = "writable"
    except (UserError, MachineError) as error:
        state = f"NOT writable: {error}"
    return f"{workspace} ({state}), its copy in {workspace.root}"


def _broken_plugins() -> list[str]:
    """A sentence for every registered plug-in that does not load or breaks its contract."""
    checks: list[Callable[[], object]] = []
    for kind in registry.KINDS:
        checks += [partial(registry.load, kind, name) for name in registry.names(kind)]
        checks += [partial(registry.load_family, kind, name) for name in registry.families(kind)]
    checks += [partial(_make_attack, name) for name in registry.names("attacks")]
    broken = []
    for check in checks:
        try:
            check()
        except (MachineError, UserError) as error:
            broken.append(" ".join(str(error).split()))
    return list(dict.fromkeys(broken))


def _make_attack(name: str) -> None:
    """With its defaults, which it may refuse: some need a parameter."""
    with suppress(UserError):
        load_attack(name)
