"""What fast gradients cost in strength: the attacked score by gradients in fp32 and as chosen here.

    python benchmarks/precision.py --network unet@jsrt#0 --dataset jsrt --data-root DIR --cases 32

Both attack the same cases from the same random starts, and both are scored by the original network
in fp32. A positive difference means that the fast gradients are the weaker attack.
"""

from __future__ import annotations

import click
from ours import Timed, timed_grid
from rich.console import Console
from rich.table import Table
from script import Script
from setting import Setting

from segbench.engine.precision import Policy
from segbench.evaluation.request import Options

console = Console(highlight=False, width=120)


@click.command(cls=Script, help=__doc__)
@click.option("--network", default="unet32", show_default=True)
@click.option("--weights", help="Of a network of your own.")
@click.option("--workspace", default="runs", show_default=True)
@click.option("--dataset", default="phantom-cxr", show_default=True)
@click.option("--data-root")
@click.option("--size", default=224, show_default=True)
@click.option("--cases", default=32, show_default=True)
@click.option("--attack", default="pgd:steps=40", show_default=True)
@click.option("--eps", default="1/255,4/255,8/255", show_default=True)
@click.option("--device", default="cpu", show_default=True)
def main(attack: str, eps: str, **values: object) -> None:
    """One row per eps."""
    setting = Setting(**values)  # type: ignore[arg-type]
    data, reference = setting.data(), setting.reference()

    def measured(policy: Policy, budget: str) -> Timed:
        options = Options(policy, setting.device)
        return timed_grid([reference], data, (attack,), (budget,), options)

    table = Table(title=f"{setting.network}, {attack}, {len(data.entries)} cases of {data.spec}")
    for heading in ("eps", "fp32", "fast", "difference", "fp32 s", "fast s", "fast is"):
        table.add_column(heading, justify="right")
    for budget in eps.split(","):
        exact, fast = measured("fp32", budget), measured("auto", budget)
        table.add_row(
            budget,
            f"{exact.jaccard:.4f}",
            f"{fast.jaccard:.4f}",
            f"{fast.jaccard - exact.jaccard:+.4f}",
            f"{exact.seconds:.1f}",
            f"{fast.seconds:.1f}",
            fast.precision,
        )
    console.print(table)


if __name__ == "__main__":
    main()
