"""segbench list: what is registered, with its parameters, and what the store holds."""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable
from typing import Any

import click

from segbench.cli.options import workspace_option
from segbench.cli.terminal import say
from segbench.errors import MachineError, UserError
from segbench.plugins import registry, spec
from segbench.plugins.where import FORMS, WHERE, may_be_confined
from segbench.store.workspace import Workspace

_RESERVED = {
    "models": ("in_channels", "num_classes"),
    "attacks": (),
    "datasets": ("root",),
    "reports": ("tables", "directory"),
    "defences": (),
}


@click.command("list")
@click.argument(
    "what",
    required=False,
    type=click.Choice([*registry.KINDS, "runs", "cells"]),
)
@click.argument("name", required=False)
@click.option("--json", "as_json", is_flag=True, help="For programs.")
@workspace_option
@click.pass_context
def command(
    ctx: click.Context, what: str | None, name: str | None, as_json: bool, workspace: Workspace
) -> None:
    """List models, attacks, datasets and reports with their parameters, or runs and stored cells.

    With a NAME that one plug-in whole: its paper, every key with its meaning, an example.

    Exit status 3 if one of them is broken; its row says how. A damaged file is named, and status 3.

    \b
    segbench list
    segbench list attacks pgd
    segbench list attacks --json
    segbench list runs
    segbench list cells
    """
    from segbench.cli.consoles import messages

    if name is not None:
        _show_one(what or "", name, as_json)
        return
    stored, damaged = {"runs": _runs, "cells": _cells}, list[str]()
    if what in stored:
        found: dict[str, list[dict[str, Any]]] = {what: stored[what](workspace, damaged)}
    else:
        kinds = [kind for kind in registry.KINDS if what in (None, kind)]
        found = {kind: _plugins(kind) for kind in kinds}
    if as_json:
        click.echo(json.dumps(found, indent=2, default=str))
    else:
        _show(found)
    for sentence in damaged:
        messages.print(f"left out: {sentence}", soft_wrap=True)
    if damaged or any("broken" in entry for entries in found.values() for entry in entries):
        ctx.exit(3)


def _show_one(what: str, name: str, as_json: bool) -> None:
    from segbench.cli.consoles import console
    from segbench.cli.plugin_page import describe_plugin

    if what not in registry.KINDS:
        raise UserError(f"segbench list {what} takes no name; of a plug-in it shows one whole")
    kind: registry.Kind = what
    if as_json:
        click.echo(json.dumps(_describe(kind, name), indent=2, default=str))
        return
    for line in describe_plugin(kind, name, _RESERVED[kind], console.width):
        say(line)


def _plugins(kind: registry.Kind) -> list[dict[str, Any]]:
    """Every plug-in by itself, then every family as one."""
    single = [_describe_any(_describe, kind, name) for name in registry.names(kind)]
    return single + [
        _describe_any(_describe_family, kind, name) for name in registry.families(kind)
    ]


def _describe_any(
    describe: Callable[[registry.Kind, str], dict[str, Any]], kind: registry.Kind, name: str
) -> dict[str, Any]:
    """A plug-in's row, which for a broken one says what is broken."""
    try:
        return describe(kind, name)
    except (MachineError, UserError) as error:
        return {"name": name, "summary": "", "parameters": {}, "broken": str(error)}


def _describe_family(kind: registry.Kind, name: str) -> dict[str, Any]:
    plugin = registry.load_family(kind, name)
    return {
        "name": f"{name}/NAME",
        "summary": _summary(inspect.getmodule(plugin.factory)),
        "parameters": {},
        "package": f"{plugin.distribution} {plugin.version}",
    }


def _summary(documented: object) -> str:
    """The first paragraph of a docstring, on one line."""
    text = (inspect.getdoc(documented) or "").strip()
    return text.partition("\n\n")[0].replace("\n", " ")


def _describe(kind: registry.Kind, name: str) -> dict[str, Any]:
    plugin = registry.load(kind, name)
    parameters = {
        key: {"type": spec.describe(p.annotation), "default": _plain(p.default)}
        for key, p in spec.parameters(plugin.factory, reserved=_RESERVED[kind]).items()
    }
    if kind == "attacks" and may_be_confined(plugin.factory):
        parameters[WHERE] = {"type": FORMS, "default": None}
    return {
        "name": name,
        "summary": _summary(plugin.factory),
        "parameters": parameters,
        "package": f"{plugin.distribution} {plugin.version}",
    }


def _plain(default: Any) -> Any:
    return None if default is inspect.Parameter.empty else default


def _cells(workspace: Workspace, damaged: list[str]) -> list[dict[str, Any]]:
    """One record per stored cell."""
    from segbench.store.rows import read_rows

    rows = read_rows(workspace, damaged)
    facts = ["cell", "model", "dataset", "split", "attack", "budget_kind", "budget", "seed"]
    cells = rows.groupby(facts, sort=False)["case_id"].nunique().reset_index(name="cases")
    return [{str(k): v for k, v in cell.items()} for cell in cells.to_dict("records")]


def _runs(workspace: Workspace, damaged: list[str]) -> list[dict[str, Any]]:
    """One record per run, in the order in which they began."""
    from segbench.store.runs import read_runs

    return [
        {
            "run": run.run_id,
            "status": run.state,
            "started": run.started,
            "seconds": run.seconds,
            "models": ", ".join(dict.fromkeys(one.model for one in run.asked)),
            "data": ", ".join(dict.fromkeys(one.dataset for one in run.asked)),
            "cells": sum(len(one.cells) for one in run.asked),
            "cases": sum(len(one.cases) for one in run.asked),
            "left out": len(run.failures),
            "reason": run.reason or "",
            "command": " ".join(run.argv),
        }
        for run in read_runs(workspace, damaged)
    ]


def _show(found: dict[str, list[dict[str, Any]]]) -> None:
    from rich.table import Table

    from segbench.cli.consoles import console

    for kind, entries in found.items():
        if kind == "runs":
            _show_runs(entries)
            continue
        table = Table(title=kind, title_justify="left", show_lines=kind != "cells")
        if kind == "cells":
            names = list(entries[0]) if entries else ["no cells are stored"]
            for name in names:
                table.add_column(name, overflow="fold")
            for entry in entries:
                table.add_row(*(str(value)[:12] for value in entry.values()))
        else:
            for name in ("name", "parameters", "what it is"):
                table.add_column(name, overflow="fold")
            for entry in entries:
                parameters = (f"{k}={v['default']}" for k, v in entry["parameters"].items())
                summary = f"broken: {entry['broken']}" if "broken" in entry else entry["summary"]
                table.add_row(entry["name"], "\n".join(parameters), summary)
        console.print(table)


def _show_runs(runs: list[dict[str, Any]]) -> None:
    """Two lines a run, three where it ended otherwise than done: names and commands are long."""
    for run in runs:
        left_out = f", {run['left out']} left out" if run["left out"] else ""
        say(
            f"{run['run']}  {run['status']}  {run['started']}  {run['seconds']:.1f} s  "
            f"{run['cells']} cells on {run['cases']} cases{left_out}: {run['models'] or '-'}"
        )
        if run["command"]:
            say(f"           {run['command']}")
        if run["reason"]:
            say(f"           {run['reason']}")
    if not runs:
        say("no runs are stored")
