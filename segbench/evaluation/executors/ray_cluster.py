"""What of a Ray cluster a pool takes, and what an actor of it does. Ray is imported late."""

from __future__ import annotations

import logging
import os
import signal
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from segbench.errors import MachineError, UserError
from segbench.evaluation.executors.serving import Seat, Server

if TYPE_CHECKING:
    from segbench.evaluation.pieces import Outcome, Piece
    from segbench.evaluation.request import Request

_CORES = 4  # of an actor without a GPU, where nobody says how many actors there are to be
_MEMORY = 2**27  # bytes of Ray's object store on this machine; nothing large goes through it


class Worker:
    """A worker of the pool, in a process and on a node of Ray's choice.

    Args:
        folder: the current folder of whoever asks; paths are relative to it.
        workspace: its folder or URL.
        settings: environment variables of segbench.
    """

    def __init__(
        self,
        request: Request,
        folder: Path,
        workspace: str,
        settings: Mapping[str, str],
        run: int,
        seat: Seat,
    ) -> None:
        import ray

        from segbench.store.workspace import reopen

        self._node = str(ray.get_runtime_context().get_node_id())
        for needed in [folder] if "://" in workspace else [folder, Path(workspace)]:
            if not needed.is_dir():
                raise MachineError(
                    f"folder {needed} is not there on the node {os.uname().nodename}; all nodes of "
                    "a cluster must see the workspace and the current folder under the same names"
                )
        os.chdir(folder)
        os.environ.update(settings)
        self._words: list[tuple[str, Any]] = []
        self._server = Server(self._tell, request, reopen(workspace), run, seat)

    def node(self) -> str:
        """The node that it lives on."""
        return self._node

    def load(self, model: str) -> bool:
        """Load a network; what goes wrong is said by the piece that comes next."""
        return self._server.load(model)

    def compute(self, piece: Piece) -> tuple[list[tuple[str, Any]], Outcome]:
        """What a listener is to be told, and the outcome."""
        outcome = self._server.answer(piece)
        words, self._words = self._words, []
        return words, outcome

    def _tell(self, word: str, value: Any) -> None:
        if word != "begun":
            self._words.append((word, value))


@dataclass(frozen=True)
class Share:
    """What a pool takes of a cluster.

    Attributes:
        seat: of each worker.
        cpus, gpus: that each of them reserves.
    """

    workers: int
    seat: Seat
    cpus: int
    gpus: float

    @property
    def wanted(self) -> str:
        """What a worker needs, in words."""
        return f"{self.cpus} CPU" + f", {self.gpus:g} GPU" * bool(self.gpus)

    def actor(self, ray: Any) -> Any:
        """The class of its actors; a dead one is not restarted by Ray, which knows of no piece."""
        return ray.remote(
            num_cpus=self.cpus, num_gpus=self.gpus, max_restarts=0, max_task_retries=0
        )(Worker)


def join_cluster(workers: int | None) -> tuple[Any, bool]:
    """Ray, connected; and whether that is to be undone in the end.

    Raises:
        UserError: Ray is not installed, or no cluster answers at ``RAY_ADDRESS``.
    """
    # Nothing is sent to anybody, and devices stay visible to actors that reserve none.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray
    except ImportError:
        raise UserError(
            "the executor ray needs Ray, which is not installed: pip install 'segbench[ray]'"
        ) from None
    if ray.is_initialized():
        return ray, False
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR}
    address = os.environ.get("RAY_ADDRESS")
    if address is None:
        cores = max(len(os.sched_getaffinity(0)), workers or 1)
        quiet |= {"num_cpus": cores, "include_dashboard": False, "object_store_memory": _MEMORY}
    try:
        with _own_handler():
            ray.init(address or "local", **quiet)
    except (ConnectionError, ValueError, RuntimeError) as error:
        where = f"at RAY_ADDRESS={address}" if address else "on this machine"
        reason = str(error).splitlines()[0]
        raise UserError(f"there is no Ray {where}: {reason}") from None
    return ray, True


@contextmanager
def _own_handler() -> Iterator[None]:
    """A signal to end means afterwards what it meant before; Ray would leave by ``sys.exit``."""
    former = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, former)


def share_out(ray: Any, request: Request) -> Share:
    """One worker per GPU, or else per group of cores; or as many as are asked for.

    Raises:
        UserError: the cluster has no room for them.
    """
    nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    cores = [int(node.get("CPU", 0)) for node in nodes]
    gpus = int(sum(node.get("GPU", 0) for node in nodes))
    if (request.device is None and not gpus) or request.device == "cpu":
        return _share_cores(cores, request.workers)
    if not gpus:
        raise UserError(f"device {request.device}: the nodes of the cluster have no GPU")
    workers = request.workers or gpus
    threads = max(1, min(sum(cores) // workers, _CORES))
    return Share(workers, Seat("cuda", threads), 1, 1.0 if workers <= gpus else gpus / workers)


def _share_cores(cores: Sequence[int], workers: int | None) -> Share:
    if workers is None:
        threads = min(_CORES, max(cores))
        workers = sum(own // threads for own in cores)
        return Share(workers, Seat("cpu", threads), threads, 0.0)
    for threads in range(sum(cores) // workers, 0, -1):
        if sum(own // threads for own in cores) >= workers:
            return Share(workers, Seat("cpu", threads), threads, 0.0)
    raise UserError(f"workers = {workers}; the cluster has {sum(cores)} cores")
