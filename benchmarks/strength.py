"""Attacked Jaccard against gradients: what each attack makes of the same number of them.

    python benchmarks/strength.py -m unet --dataset jsrt --data-root DIR --limit 8

Runs what `segbench attack` runs, into the same workspace, so that nothing is computed twice. An
attack with a step count takes each of --gradients; SEA shares them among its losses; the standard
attack has its own three costs. Cases that the standard attack leaves more than 0.02 above what
another one found are listed by name. Every network of the workspace that has all rows is shown.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import click
from pandas import DataFrame

from segbench.cli.evaluation import evaluate
from segbench.cli.options import workspace_option
from segbench.evaluation.records import validated
from segbench.evaluation.request import Request
from segbench.plugins.attack import load_attack
from segbench.plugins.naming import eps_names
from segbench.plugins.spec import parse
from segbench.store.workspace import Workspace
from segbench.tables.load import load_tables

LED = "keep=best,momentum=heavy,random_start=false,schedule=cosine"
ATTACKS = {
    "pgd": "pgd:steps={n}",
    "segpgd": "segpgd:steps={n}",
    "cospgd": "cospgd:steps={n}",
    "apgd": "apgd:steps={n}",
    **{
        f"pgd, {loss}": f"pgd:loss={loss},{LED},steps={{n}}"
        for loss in ("lovasz", "scored-hinge", "metric-hinge", "reach")
    },
    "sea": "sea:steps={n/4}",
    "sea, released": "sea:preset=eccv2024,steps={n/3}",
}
STANDARD = {30: "standard:cost=quick", 100: "standard", 1000: "standard:cost=thorough"}
FEWEST = 4  # steps that each of SEA's losses needs
BEHIND = 0.02
KEYS = ["model", "dataset", "split", "budget", "case_id"]

Specs = dict[tuple[str, int], str]
"""(name, gradients a case) -> spec."""


def attack_specs(names: list[str], gradients: list[int], costs: list[int]) -> Specs:
    """What is run, by its name and number of gradients."""
    specs: Specs = {}
    for name in names:
        for n in gradients:
            share = next((k for k in (3, 4) if f"{{n/{k}}}" in ATTACKS[name]), 1)
            if n // share >= FEWEST:
                text = ATTACKS[name].replace(f"{{n/{share}}}", str(n // share))
                specs[name, n] = text.replace("{n}", str(n))
    return specs | {("standard", n): STANDARD[n] for n in costs}


def scores(cases: DataFrame, specs: Specs) -> DataFrame:
    """Jaccard, one row per model, budget and case that all attacks have, one column per attack."""
    columns = {}
    for key, text in specs.items():
        attack = load_attack(text)
        same = cases["attack"].map(lambda label: parse(label).name) == attack.plugin.name
        own = cases[same & (cases["attack_params"] == attack.parameters_text)]
        columns[key] = own[own["budget_kind"] == "linf"].set_index(KEYS)["jaccard"]
    return DataFrame(columns).dropna()


def report(table: DataFrame, specs: Specs) -> Iterator[str]:
    """Markdown: per model and eps a table of attacks by gradients, then who is behind."""
    numbers = sorted({n for _, n in specs})
    names = list(dict.fromkeys(name for name, _ in specs))
    budgets = eps_names(("linf", budget) for budget in table.index.get_level_values("budget"))
    for (model, dataset, _, budget), part in table.groupby(KEYS[:-1], sort=True):
        eps = budgets["linf", float(budget)]
        yield f"\n{model} on {dataset}, {eps}, {len(part)} cases; gradients a case:\n"
        yield f"| attack | {' | '.join(map(str, numbers))} |"
        yield f"|---{'|---' * len(numbers)}|"
        mean = part.mean()
        for name in names:
            cells = [f"{mean[name, n]:.3f}" if (name, n) in specs else "" for n in numbers]
            yield f"| {name} | {' | '.join(cells)} |"
        yield from _behind(part, specs)


def _behind(part: DataFrame, specs: Specs) -> Iterator[str]:
    """What the standard attack at its default cost leaves above the best of all others."""
    if ("standard", 100) not in specs:
        return
    others = part[[key for key in specs if key[0] != "standard"]]
    means = others.mean()
    gap = part["standard", 100].mean() - means.min()
    name, n = means.idxmin()
    yield f"\nstandard (100) against the lowest other mean, {name} ({n}): {gap:+.4f}"
    each = part["standard", 100] - others.min(axis=1)
    for key, value in each[each > BEHIND].items():
        name, n = others.loc[key].idxmin()
        yield f"- behind on {key[-1]}: {value:+.3f} ({name}, {n})"


def _numbers(text: str) -> list[int]:
    return [int(item) for item in text.split(",") if item]


@click.command(help=__doc__)
@click.option("-m", "--model", multiple=True, help="[default: every checkpoint]")
@click.option("-a", "--attack", multiple=True, type=click.Choice(list(ATTACKS)), help="[all]")
@click.option("--dataset")
@click.option("--data-root", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--limit", type=int, help="At most so many cases.")
@click.option("--eps", default="1/255,2/255,4/255,8/255", show_default=True)
@click.option("--gradients", default="10,20,40,80,160,320", show_default=True)
@click.option("--costs", default="30,100", show_default=True, help="Of 30, 100 and 1000.")
@click.option("--device")
@workspace_option
@click.option("--out", type=click.Path(path_type=Path), default=Path("strength.md"))
def main(
    model: tuple[str, ...],
    attack: tuple[str, ...],
    dataset: str | None,
    data_root: Path | None,
    limit: int | None,
    eps: str,
    gradients: str,
    costs: str,
    device: str | None,
    workspace: Workspace,
    out: Path,
) -> None:
    """Attack, compare, write."""
    specs = attack_specs(list(attack or ATTACKS), _numbers(gradients), _numbers(costs))
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
    text = "\n".join(report(scores(load_tables(workspace).cases, specs), specs))
    out.write_text(text + "\n")
    click.echo(text)


if __name__ == "__main__":
    main()
