"""segbench check --plan: what a grid will cost here, before anybody runs it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from segbench.cli.pace import duration
from segbench.errors import UserError
from segbench.store.workspace import Workspace


def plan(path: Path, workspace: Workspace) -> Iterator[str]:
    """A line per network and attack, and the sum.

    Raises:
        UserError: the grid is wrong, or its networks are not there.
    """
    from segbench.evaluation.grid import expand_grid
    from segbench.evaluation.grid_file import load_grid_file
    from segbench.evaluation.plan import find_models, pair_with_data, plan_grid
    from segbench.store.rows import read_rows
    from segbench.tables.plan_costs import plan_costs

    asked = load_grid_file(path)
    if asked.train and not asked.models:
        raise UserError(
            f"{path} trains its networks first; what an attack on them costs is not known"
        )
    grid = plan_grid(asked)
    pairs = pair_with_data(find_models(asked, workspace), asked)
    cells = Counter(cell.label for cell in expand_grid(grid) if cell.attack)
    attacks = [
        (one.label, one.label, one.parameters_text, cells[one.label]) for one in grid.attacks
    ]
    networks = {reference.name: len(data.entries) for reference, data in pairs}
    costs = plan_costs(read_rows(workspace, [], categories=True), networks, attacks)
    width = max(len(f"{cost.model}, {cost.attack}") for cost in costs)
    heads = f"{'scores':>8}  {'gradients':>10}  {'time':>9}  measured on"
    yield f"{'network, attack':<{width}}  {heads}"
    for cost in costs:
        name = f"{cost.model}, {cost.attack}"
        if cost.seconds is None:
            yield f"{name:<{width}}  {cost.scores:>8}  {'?':>10}  {'?':>9}  nothing like it"
        else:
            gradients = f"{(cost.gradients or 0) * cost.scores:.0f}"
            spent = duration(cost.seconds * cost.scores)
            yield f"{name:<{width}}  {cost.scores:>8}  {gradients:>10}  {spent:>9}  {cost.like}"
    known = [cost for cost in costs if cost.seconds is not None]
    total = sum((cost.seconds or 0) * cost.scores for cost in known)
    yield f"in all {sum(cost.scores for cost in costs)} scores, {duration(total)} of those measured"
    if len(known) < len(costs):
        yield (
            f"{len(costs) - len(known)} of {len(costs)} lines have no measure here; the same grid "
            "with `limit = 2` gives one. What is stored already is found and not computed again."
        )
