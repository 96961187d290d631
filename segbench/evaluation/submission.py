"""Parts of about equal cost, each a file that ``segbench run --part`` works off, for a scheduler.

    <workspace>/results/parts/<name>/<n>.json

A task of a cluster is a process of its own beside the scheduler's: a network that ends it, and the
scheduler's signal that time is up, meet a run that knows what to do.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from segbench.errors import UserError
from segbench.evaluation.forecast import Forecast
from segbench.evaluation.parts import PlannedPart, write_part
from segbench.store.runs import now
from segbench.store.workspace import Workspace


class Task:
    """One task of an array; before its time is up submitit asks it for a checkpoint.

    Attributes:
        arguments: of segbench.
        folder: where it is started.
    """

    def __init__(self, arguments: Sequence[str], folder: Path) -> None:
        self.arguments, self.folder = tuple(arguments), folder
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> None:
        """Work the part off.

        Raises:
            RuntimeError: something of it is missing; the log says what.
        """
        # A session of its own: the scheduler's signals come here, and go on by ``checkpoint``.
        self._process = subprocess.Popen(
            [sys.executable, "-m", "segbench", *self.arguments],
            cwd=self.folder,
            start_new_session=True,
        )
        try:
            status = self._process.wait()
        except BaseException:
            self._end()
            raise
        if status:
            raise RuntimeError(f"segbench {' '.join(self.arguments)} ended with status {status}")

    def checkpoint(self) -> Any:
        """The same task once more: what it has stored it will find."""
        from submitit.helpers import DelayedSubmission

        self._end()
        return DelayedSubmission(Task(self.arguments, self.folder))

    def _end(self) -> None:
        """Ask the run to end, and wait until it has; also in the middle of waiting for it."""
        if self._process is None:
            return
        with suppress(ProcessLookupError, ChildProcessError):
            os.kill(self._process.pid, signal.SIGTERM)
            os.waitid(os.P_PID, self._process.pid, os.WEXITED | os.WNOWAIT)


def deal_out(seen: Forecast) -> list[PlannedPart]:
    """Its pieces as its schedule has dealt them out; nobody gets nothing."""
    parts = []
    for share in seen.schedule.shares:
        cases: dict[str, dict[str, list[str]]] = {}
        for piece in share:
            cases.setdefault(piece.model, {}).setdefault(piece.keys[0], []).extend(piece.lacking)
        if cases:
            parts.append(PlannedPart(cases))
    return parts


def write_tasks(
    parts: Sequence[PlannedPart], grid: Path, workspace: Workspace, options: Sequence[str]
) -> tuple[Path, list[Task]]:
    """The files of the parts, in a folder of their own, and a task for each.

    Args:
        options: of ``segbench run``, beside workspace and part.

    Raises:
        MachineError: the disk refused.
    """
    name = f"{now().replace(':', '').rstrip('Z')}-{secrets.token_hex(2)}"
    folder, tasks = workspace.results.resolve() / "parts" / name, []
    root = str(workspace.root.resolve())
    for number, part in enumerate(parts):
        file = folder / f"{number}.json"
        write_part(file, part)
        own = ["--workspace", root, "--part", str(file), *options]
        tasks.append(Task(["run", str(grid.resolve()), *own], Path.cwd()))
    return folder, tasks


class Slurm:
    """A job array of SLURM's by submitit, or processes of this machine in its place.

    Args:
        folder: for scripts, logs and what submitit keeps.
        settings: of ``sbatch``, in submitit's words.
        requeues: how often a task may run out of time.
    """

    def __init__(
        self, folder: Path, settings: dict[str, Any], requeues: int, *, local: bool = False
    ) -> None:
        try:
            import submitit
        except ImportError:
            raise UserError(
                "segbench submit needs submitit, which is not installed: pip install "
                "'segbench[slurm]'"
            ) from None
        self.folder, self.local = folder, local
        how: dict[str, Any] = {"folder": folder, "max_num_timeout": requeues}
        self._executor: Any = submitit.LocalExecutor(**how) if local else _on_slurm(submitit)(**how)
        if local:
            settings = {"timeout_min": settings["time"], "stderr_to_stdout": True}
        self._executor.update_parameters(**settings)

    def script(self, tasks: int) -> str:
        """What ``sbatch`` is given for an array of so many tasks."""
        self._executor.parameters["map_count"] = tasks
        text: str = self._executor._make_submission_file_text(
            self._executor._submitit_command_str, "0"
        )
        del self._executor.parameters["map_count"]
        return text

    def submit(self, tasks: Sequence[Task]) -> list[Any]:
        """submitit's jobs.

        Raises:
            UserError: SLURM is not here, or it refuses.
        """
        if not self.local and self._executor.real_affinity() < 0:
            raise UserError(
                "there is no SLURM here (srun is not found); --dry-run shows the script"
            )
        try:
            with self._executor.batch():
                jobs = [self._executor.submit(task) for task in tasks]
        except (subprocess.CalledProcessError, RuntimeError) as error:
            raise UserError(f"SLURM refused the array: {error}") from None
        return jobs


def _on_slurm(submitit: Any) -> Any:
    """submitit's executor, which may be asked for its script where there is no SLURM."""

    class Paper(submitit.SlurmExecutor):  # type: ignore[misc]
        @classmethod
        def affinity(cls) -> int:
            return 2

        @classmethod
        def real_affinity(cls) -> int:
            found: int = super().affinity()
            return found

    return Paper
