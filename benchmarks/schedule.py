"""How well many devices would share a large grid, by what its networks have cost in a workspace.

    python benchmarks/schedule.py --workspace runs
    python benchmarks/schedule.py --workspace runs --devices 8 --cells 1000 --cases 123

Networks, attacks and seconds are those that were measured there (results/costs); the cells are
dealt out among them. Nothing is computed: the pieces are cut and handed out as by `--executor
processes`, on a clock of its own. Beside it what no schedule could do without, and the same work
with one network after another.
"""

from __future__ import annotations

from pathlib import Path

import click
from script import Script

from segbench.cli.pace import duration
from segbench.evaluation.costs import Costs, Kind
from segbench.evaluation.pieces import Piece
from segbench.evaluation.schedule import Schedule, cut, simulate
from segbench.store.workspace import Workspace

SHARD = 32  # cases of one shape that are read together


def deal(kinds: list[Kind], cells: int, cases: int) -> dict[Piece, Kind]:
    """The pieces of a clean cell per network, and of so many cells of the measured attacks."""
    names = [f"case-{n}" for n in range(cases)]
    groups = [names[start : start + SHARD] for start in range(0, cases, SHARD)]
    networks = list(dict.fromkeys(kind.network for kind in kinds))
    clean = {network: Kind(network, k.place, k.shape) for k in kinds for network in [k.network]}
    dealt: dict[Piece, Kind] = {}
    for network in networks:
        own = [kind for kind in kinds if kind.network == network]
        share = range(networks.index(network), cells, len(networks))
        for place, kind in enumerate([clean[network], *(own[n % len(own)] for n in share)]):
            for group in groups:
                lacking = dict.fromkeys(group, (0,))
                piece = Piece(network, place, (f"{network}{place}",), lacking, shape=kind.shape)
                dealt[piece] = kind
    return dealt


def said(name: str, schedule: Schedule) -> str:
    """A line."""
    share = schedule.ideal / schedule.makespan
    return (
        f"{name}: makespan {schedule.makespan:.1f} s ({duration(schedule.makespan)}), ideal "
        f"{schedule.ideal:.1f} s ({share:.2%} of it), {schedule.loads} loads"
    )


@click.command(cls=Script, help=__doc__)
@click.option("--workspace", type=Path, default=Path("runs"), show_default=True)
@click.option("--devices", default=8, show_default=True)
@click.option("--cells", default=1000, show_default=True)
@click.option("--cases", default=123, show_default=True, help="Of every cell.")
def main(workspace: Path, devices: int, cells: int, cases: int) -> None:
    """Deal, cut, simulate."""
    costs = Costs(Workspace(workspace))
    kinds = [kind for kind in costs.kinds if kind.attack and not kind.direct]
    if not kinds:
        raise click.UsageError(f"nothing was measured in {workspace}; attack something there first")
    dealt = deal(kinds, cells, cases)
    by_cell = {(piece.model, piece.cell): kind for piece, kind in dealt.items()}

    def seconds(piece: Piece) -> float:
        kind = by_cell[piece.model, piece.cell]
        return len(piece.lacking) * costs.case(kind, 0.0).seconds

    pieces = cut(list(dealt), devices, seconds)
    ready = {kind.network: costs.ready(kind.network, kind.place) for kind in kinds}
    click.echo(
        f"{cells} cells of {len(ready)} networks and {len(kinds)} measured (network, attack), "
        f"{cases} cases: {len(pieces)} pieces, {duration(sum(map(seconds, pieces)))} of one device"
    )
    click.echo(said(f"{devices} devices, one queue", simulate(pieces, devices, seconds, ready)))
    apart = [
        simulate(cut(own, devices, seconds), devices, seconds, ready)
        for network in ready
        if (own := [piece for piece in dealt if piece.model == network])
    ]
    click.echo(
        f"{devices} devices, one network after another: makespan "
        f"{sum(one.makespan for one in apart):.1f} s"
    )


if __name__ == "__main__":
    main()
