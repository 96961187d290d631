"""From options to an executor."""

from __future__ import annotations

import torch

from segbench.engine.precision import choose_device
from segbench.errors import UserError
from segbench.evaluation.executors.executor import Executor
from segbench.evaluation.executors.processes import Processes
from segbench.evaluation.executors.serving import Seat
from segbench.evaluation.request import Options, Request
from segbench.store.workspace import Workspace


def open_executor(request: Request, workspace: Workspace, run: int) -> Executor:
    """The pool of workers that a request asks for.

    Raises:
        UserError: its options contradict each other, or a device cannot be used.
    """
    if request.executor == "ray":
        from segbench.evaluation.executors.ray_actors import RayActors

        return RayActors(request, workspace, run)
    seats = find_seats(request)
    return Processes(request, workspace, run, seats, request.case_timeout)


def check_executor(options: Options, workspace: Workspace) -> None:
    """Refuse options of an executor that another one was asked for.

    Raises:
        UserError: such, or what is asked for is not named by text and other processes are to read
            it again, or they cannot reach the workspace.
    """
    if options.executor == "local":
        for option in ("workers", "devices", "case_timeout"):
            if getattr(options, option):
                name = option.replace("_", "-")
                raise UserError(f"{name} belongs to a pool of workers: executor processes or ray")
    elif options.executor == "ray" and options.devices:
        raise UserError(
            "devices belongs to the executor processes; Ray deals out the GPUs itself (--device "
            "cuda or cpu, where that is to be said)"
        )
    elif not isinstance(options, Request):
        raise UserError(
            f"the executor {options.executor} needs networks and data that are named by text"
        )
    elif str(workspace).startswith("memory://"):
        raise UserError(
            f"workspace {workspace} is in the memory of this process, which the workers of the "
            f"executor {options.executor} cannot reach; name a folder, s3://… or gs://…"
        )


def find_seats(options: Options) -> list[Seat]:
    """Where each worker computes; they share the threads that this process has.

    Raises:
        UserError: a device cannot be used, or both ``device`` and ``devices`` are given.
    """
    if options.devices and options.device:
        raise UserError(
            f"device {options.device} and devices {', '.join(options.devices)}: give one"
        )
    devices = list(options.devices) or [str(choose_device(options.device))]
    if devices == ["all"]:
        count = torch.accelerator.device_count() if torch.accelerator.is_available() else 0
        kind = torch.accelerator.current_accelerator() if count else None
        devices = [f"{kind.type}:{n}" for n in range(count)] if kind else ["cpu"]
    places = [str(choose_device(device)) for device in devices] * (options.workers or 1)
    threads = max(1, torch.get_num_threads() // len(places))
    return [Seat(place, threads) for place in places]
