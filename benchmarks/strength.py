"""How strong the attacks are beside each other: mean Jaccard, and what must hold between them.

    python benchmarks/strength.py -m unet --dataset jsrt --data-root DIR --limit 16

Runs what `segbench attack` runs, into the same workspace, so that nothing is computed twice. PGD,
APGD, SegPGD and CosPGD take the same number of steps; I-FGSM takes the paper's; SEA takes its own
number for each of its four losses.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from pandas import DataFrame

from segbench.cli.evaluation import evaluate
from segbench.evaluation.records import validated
from segbench.evaluation.request import Request
from segbench.plugins.attack import load_attack
from segbench.plugins.naming import eps_names
from segbench.plugins.spec import parse
from segbench.store.workspace import Workspace
from segbench.tables.load import load_tables

SINGLE = ("ifgsm", "pgd", "apgd", "segpgd", "cospgd")
KEYS = ["model", "dataset", "split", "budget", "case_id"]
LAWS = {
    "PGD ≤ I-FGSM": ("pgd", ("ifgsm",)),
    "APGD ≤ PGD": ("apgd", ("pgd",)),
    "SEA ≤ each": ("sea", SINGLE),
}


def attack_specs(steps: int, sea_steps: int) -> dict[str, str]:
    """The attacks by their short names."""
    return {
        "ifgsm": "ifgsm:preset=paper",
        **{name: f"{name}:steps={steps}" for name in SINGLE[1:]},
        "sea": f"sea:steps={sea_steps}",
    }


def scores(cases: DataFrame, specs: dict[str, str]) -> DataFrame:
    """Jaccard, one row per model, budget and case that all attacks have, one column per attack."""
    columns = {}
    for name, text in specs.items():
        attack = load_attack(text)
        same = cases["attack"].map(lambda label: parse(label).name) == attack.plugin.name
        own = cases[same & (cases["attack_params"] == attack.parameters_text)]
        columns[name] = own[own["budget_kind"] == "linf"].set_index(KEYS)["jaccard"]
    return DataFrame(columns).dropna()


def report(table: DataFrame, specs: dict[str, str]) -> Iterator[str]:
    """Markdown: the means, and whether each law holds for them, by how much."""
    yield "Mean Jaccard; lower is stronger. A law's number is by how much it holds.\n"
    heads = ["model", "eps", "cases", *specs, *LAWS]
    yield f"| {' | '.join(heads)} |"
    yield f"|{'---|' * len(heads)}"
    budgets = table.index.get_level_values("budget")
    names = eps_names(("linf", budget) for budget in budgets)
    for (model, _, _, budget), part in table.groupby(KEYS[:-1], sort=True):
        mean = part.mean()
        cells = [str(model), names["linf", float(budget)], str(len(part))]
        cells += [f"{mean[name]:.4f}" for name in specs]
        for stronger, others in LAWS.values():
            gap = min(mean[other] for other in others) - mean[stronger]
            cells.append(f"{'yes' if gap >= 0 else 'NO'} ({gap:+.4f})")
        yield f"| {' | '.join(cells)} |"
    yield "\n" + ", ".join(f"`{text}`" for text in specs.values())


@click.command(help=__doc__)
@click.option("-m", "--model", multiple=True, help="[default: every checkpoint]")
@click.option("--dataset")
@click.option("--data-root", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--limit", type=int, help="At most so many cases.")
@click.option("--eps", default="1/255,2/255,4/255,8/255", show_default=True)
@click.option("--steps", default=40, show_default=True)
@click.option("--sea-steps", default=300, show_default=True, help="For each of its four losses.")
@click.option("--device")
@click.option("--workspace", type=click.Path(path_type=Path), default=Path("runs"))
@click.option("--out", type=click.Path(path_type=Path), default=Path("strength.md"))
def main(
    model: tuple[str, ...],
    dataset: str | None,
    data_root: Path | None,
    limit: int | None,
    eps: str,
    steps: int,
    sea_steps: int,
    device: str | None,
    workspace: Path,
    out: Path,
) -> None:
    """Attack, compare, write."""
    specs = attack_specs(steps, sea_steps)
    asked = {
        "models": model,
        "attacks": tuple(specs.values()),
        "eps": (eps,),
        "dataset": dataset,
        "data_root": data_root,
        "limit": limit,
        "device": device,
    }
    evaluate(validated(Request, asked), workspace)
    text = "\n".join(report(scores(load_tables(Workspace(workspace)).cases, specs), specs))
    out.write_text(text + "\n")
    click.echo(text)


if __name__ == "__main__":
    main()
