"""segbench run --plan: what a grid will cost, before anybody runs it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from segbench.cli.pace import duration

if TYPE_CHECKING:
    from segbench.evaluation.forecast import Forecast
    from segbench.evaluation.request import Request
    from segbench.store.workspace import Workspace


def foresee(request: Request, workspace: Workspace, workers: int | None = None) -> Forecast:
    """Load the networks that are asked for, and see what is missing; for the workers asked for.

    Raises:
        UserError, MachineError: the grid is wrong, or its networks or data cannot be used.
    """
    from segbench.cli.display import AttackProgress, progress_bar
    from segbench.cli.evaluation import resolve_request, say_own_attacks
    from segbench.evaluation.forecast import count_workers, forecast
    from segbench.evaluation.plan import find_sources, plan_grid

    say_own_attacks(request.attacks)
    grid = plan_grid(request)
    find_sources(grid, workspace)
    pairs = resolve_request(request, workspace)
    with progress_bar() as progress:
        listener = AttackProgress(progress)
        workers = workers or count_workers(request)
        return forecast(pairs, grid, workspace, request, listener, workers)


def plan(request: Request, workspace: Workspace) -> Iterator[str]:
    """A line per network and attack, and the sum.

    Raises:
        UserError, MachineError: see ``foresee``.
    """
    from segbench.atomic import shown
    from segbench.evaluation.settle import most_added

    seen = foresee(request, workspace)
    if seen.pieces:
        yield from _table(seen)
    else:
        yield f"nothing is missing: {seen.found} scores are in {shown(workspace.results)}"
    cases = sum(len(plan.known) for plan in seen.plans)
    if request.until_settled and (most := most_added(request, cases)):
        yield (
            "--until-settled: `standard` and then its thorough form may follow on what is in "
            f"doubt, with at most {most} scores more; they are not in this sum"
        )


def _table(seen: Forecast) -> Iterator[str]:
    names = [f"{line.model}, {line.attack}" for line in seen.lines]
    width = max(map(len, ("network, attack", *names)))
    heads = f"{'pieces':>6}  {'scores':>8}  {'gradients':>10}  {'time':>9}  measured on"
    yield f"{'network, attack':<{width}}  {heads}"
    for name, line in zip(names, seen.lines, strict=True):
        gradients = "?" if line.gradients is None else f"{line.gradients:.0f}"
        spent = "?" if line.seconds is None else duration(line.seconds)
        counts = f"{line.pieces:>6}  {line.scores:>8}  {gradients:>10}  {spent:>9}"
        yield f"{name:<{width}}  {counts}  {line.like}"
    yield from _sums(seen)


def _sums(seen: Forecast) -> Iterator[str]:
    measured = [line for line in seen.lines if line.seconds is not None]
    scores, pieces = sum(line.scores for line in seen.lines), len(seen.pieces)
    gradients = sum(line.gradients or 0 for line in measured)
    seconds = sum(line.seconds or 0 for line in measured)
    yield (
        f"in all {pieces} pieces with {scores} scores, {seen.found} more are stored; of what is "
        f"measured {gradients:.0f} gradients, {duration(seconds)} of one worker"
    )
    schedule, guessed = seen.schedule, len(seen.lines) - len(measured)
    if seen.workers > 1:
        yield (
            f"{seen.workers} workers, longest piece first: {duration(schedule.makespan)}; "
            f"no schedule is shorter than {duration(schedule.ideal)} "
            f"({_share(schedule.ideal, schedule.makespan)} of it), networks loaded "
            f"{schedule.loads} times" + " (with guesses)" * bool(guessed)
        )
    if guessed:
        yield (
            f"{guessed} of {len(seen.lines)} lines have no measure here; the same grid with "
            "`limit = 2` gives one"
        )


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "100%"
