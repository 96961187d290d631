"""segbench submit: a grid as one job array of SLURM's."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from segbench.cli.options import at_least, device_option, workspace_option
from segbench.errors import UserError
from segbench.store.workspace import Workspace

if TYPE_CHECKING:
    from segbench.evaluation.forecast import Forecast


@click.command("submit")
@click.argument("grid", type=click.Path(path_type=Path, exists=True, dir_okay=False))
@click.option("--array", type=at_least(1), default=8, show_default=True, help="Tasks.")
@click.option("--partition", help="SLURM's.")
@click.option("--account", help="SLURM's.")
@click.option("--qos", help="SLURM's.")
@click.option("--constraint", help="SLURM's, for example a100.")
@click.option(
    "--time", "minutes", type=at_least(1), default=240, show_default=True, help="Minutes of a task."
)
@click.option("--gpus", type=click.IntRange(0, 64), help="Of a task.  [default: 1; 0 on the CPU]")
@click.option("--cpus", type=at_least(1), default=4, show_default=True, help="Of a task.")
@click.option("--mem", type=at_least(1), help="Gigabytes of a task.  [default: the partition's]")
@click.option(
    "--setup",
    multiple=True,
    help="A line of shell before the work begins, such as 'module load cuda'. Repeatable.",
)
@click.option(
    "--requeues",
    type=at_least(1),
    default=20,
    show_default=True,
    help="How often a task that ran out of time goes on.",
)
@click.option(
    "--cluster",
    type=click.Choice(["slurm", "local"]),
    default="slurm",
    show_default=True,
    help="local: as processes of this machine, to try it.",
)
@click.option("--dry-run", is_flag=True, help="Print the script, and submit nothing.")
@device_option
@workspace_option
def command(grid: Path, workspace: Workspace, device: str | None, **asked: Any) -> None:
    """Plan parts of GRID (a TOML file) of about equal cost, and submit them as one job array.

    What is stored is not computed again, so the same command submits what is missing. A task that
    runs out of time, or is preempted, is queued again and goes on where it was. Train first.

    \b
    segbench submit grid.toml --partition gpu --array 16
    segbench submit grid.toml --partition gpu --array 16 --dry-run
    """
    from segbench.cli.consoles import console
    from segbench.cli.evaluation import with_trained
    from segbench.cli.planning import foresee
    from segbench.evaluation.grid_file import load_grid_file, override
    from segbench.evaluation.submission import Slurm, deal_out, write_tasks

    if workspace.mirror:
        raise UserError(
            "segbench submit keeps its plan and its logs in the workspace, which has to be a "
            f"folder that all nodes see; with {workspace} let each of N tasks of an array do "
            f"`segbench run {grid} --shard I/N --workspace {workspace}`"
        )
    request = with_trained(override(load_grid_file(grid), {"device": device} if device else {}))
    if request.shard or request.until_settled:
        raise UserError("shard and until_settled are not for submit, which plans the whole grid")
    seen = foresee(request, workspace, asked["array"])
    parts = deal_out(seen)
    if not parts:
        console.print(f"nothing is missing: {seen.found} scores are in {workspace.results}")
        return
    logs = workspace.results.resolve() / "parts" / "logs"
    local = asked["cluster"] == "local"
    slurm = Slurm(logs, _settings(asked, request.device), asked["requeues"], local=local)
    if asked["dry_run"]:
        click.echo(slurm.script(len(parts)), nl=False)
        return
    options = ["--device", device] if device else []
    folder, tasks = write_tasks(parts, grid, workspace, options)
    jobs = slurm.submit(tasks)
    for line in _said(seen, jobs[0].job_id.partition("_")[0], folder, logs, workspace, local=local):
        console.print(line, soft_wrap=True)


def _settings(asked: dict[str, Any], device: str | None) -> dict[str, Any]:
    """submitit's words for them."""
    gpus = asked["gpus"] if asked["gpus"] is not None else int(device != "cpu")
    given = {
        "partition": asked["partition"],
        "account": asked["account"],
        "qos": asked["qos"],
        "constraint": asked["constraint"],
        "cpus_per_task": asked["cpus"],
        "gpus_per_node": gpus or None,
        "mem": f"{asked['mem']}GB" if asked["mem"] else None,
        "setup": list(asked["setup"]) or None,
        "time": asked["minutes"],
        "job_name": "segbench",
        "signal_delay_s": 120,
        "stderr_to_stdout": True,
        "additional_parameters": {"requeue": True},
    }
    return {name: value for name, value in given.items() if value is not None}


def _said(
    seen: Forecast, job: str, folder: Path, logs: Path, workspace: Workspace, *, local: bool
) -> list[str]:
    """How to follow the array, and what to run when it has ended."""
    from segbench.cli.pace import duration

    tasks = sum(map(bool, seen.schedule.shares))
    guessed = any(line.seconds is None for line in seen.lines)
    length = f"about {duration(seen.schedule.makespan)} each{' (a guess)' * guessed}"
    follow = f"ls {logs}" if local else f"squeue --job {job}"
    return [
        f"submitted {tasks} tasks{'' if local else f' as job {job}'}, {length}; parts in {folder}",
        f"follow:     {follow}; segbench list runs --workspace {workspace.root}; logs in {logs}",
        f"at the end: segbench report --workspace {workspace.root}; the same submit again for what "
        "is missing then",
    ]
