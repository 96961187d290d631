"""Attacked Jaccard against gradients: what each attack makes of the same number of them.

    python benchmarks/strength.py -m unet --dataset jsrt --data-root DIR --limit 8

Runs what `segbench attack` runs, into the same workspace, so that nothing is computed twice and a
run that was cut short goes on. An attack with a step count takes each of --gradients; SEA shares
them among its losses, RSE among its members; the standard attack has costs and versions of its
own, each named by the gradients that a case takes at most; of the default and of its quick form it
is said what cases took. Other packages' attacks (peer_attacks.py) are run where the packages are.
Several runs, of other networks or other attacks, add up: the page shows all that the
workspace holds of these attacks. With it goes each attack's optimality
(segbench.tables.optimality), and, with --plot, a figure. Cases that the standard attack leaves more
than 0.02 above what another one found are listed by name.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
from pandas import DataFrame
from script import Script

from segbench.api import Tables
from segbench.cli.evaluation import evaluate
from segbench.cli.options import workspace_option
from segbench.evaluation.records import validated
from segbench.evaluation.request import Request
from segbench.plugins.attack import NamedAttack, load_attack
from segbench.plugins.naming import eps_names
from segbench.store.workspace import Workspace
from segbench.tables.load import load_tables

LED = "keep=best,momentum=heavy,random_start=false,schedule=cosine"
PEERS = {
    "torchattacks": ("torchattacks, pgd", "Torchattacks"),
    "foolbox": ("foolbox, pgd", "Foolbox"),
    "adv_lib": ("adv-lib, pgd", "AdvLib"),
}
ATTACKS = {
    "pgd": "pgd:steps={n}",
    "segpgd": "segpgd:steps={n}",
    "cospgd": "cospgd:steps={n}",
    "apgd": "apgd:steps={n}",
    "mifgsm": "mifgsm:steps={n}",
    "padam": "padam:steps={n}",
    "art, pgd": "art/ProjectedGradientDescent:max_iter={n}",
    **{
        name: f"{Path(__file__).parent / 'peer_attacks.py'}:{attack}:steps={{n}}"
        for package, (name, attack) in PEERS.items()
        if importlib.util.find_spec(package)
    },
    **{
        f"pgd, {loss}": f"pgd:loss={loss},{LED},steps={{n}}"
        for loss in ("jsd", "lovasz", "scored-hinge", "metric-hinge", "reach")
    },
    "sea": "sea:steps={n/4}",
    "sea, released": "sea:preset=eccv2024,steps={n/3}",
    "rse": "rse:steps={n/15}",
}
STANDARD = {
    30: ("standard@4, quick", "standard@4:cost=quick"),
    100: ("standard@1", "standard@1"),
    200: ("standard@2", "standard@2"),
    1100: ("standard@3", "standard@3"),
    1145: ("standard", "standard"),
    1177: ("standard, quick", "standard:cost=quick"),
}
EVERY = [10, 20, 40, 80, 160, 320, 1200]
COLUMNS = [*EVERY, 3000]  # of the page; the last are the gradients of `rse` by its defaults
DEFAULT, QUICK = ("standard", 1145), ("standard, quick", 1177)
FEWEST = 4  # steps that each of SEA's losses needs, and RSE
BEHIND = 0.02
KEYS = ["model", "dataset", "split", "budget", "case_id"]

Specs = dict[tuple[str, int], str]
"""(name, gradients a case) -> spec."""


def attack_specs(names: list[str], gradients: list[int], costs: list[int]) -> Specs:
    """What is run, by its name and number of gradients."""
    specs: Specs = {}
    for name in names:
        for n in gradients:
            share = next((k for k in (3, 4, 15) if f"{{n/{k}}}" in ATTACKS[name]), 1)
            if n // share >= FEWEST:
                text = ATTACKS[name].replace(f"{{n/{share}}}", str(n // share))
                specs[name, n] = text.replace("{n}", str(n))
    return specs | {(STANDARD[n][0], n): STANDARD[n][1] for n in costs}


def is_by(label: str, attack: NamedAttack) -> bool:
    """Whether rows of this label are by this attack, with whatever parameters."""
    return f"{label.replace('@', ':')}:".startswith(f"{attack.plugin.name}:")


def is_standard(name: str) -> bool:
    """Whether that is the standard attack, of any version and cost."""
    return name.startswith("standard")


def scores(cases: DataFrame, specs: Specs, of: str = "jaccard") -> DataFrame:
    """One row per model, budget and case, one column per attack; NaN where not run."""
    columns = {}
    for key, text in specs.items():
        attack = load_attack(text)
        same = cases["attack"].map(lambda label, attack=attack: is_by(label, attack))
        own = cases[same.astype(bool) & (cases["attack_params"] == attack.parameters_text)]
        columns[key] = own[own["budget_kind"] == "linf"].set_index(KEYS)[of]
    return DataFrame(columns)


def parts(table: DataFrame) -> Iterator[tuple[tuple[str, str, float], DataFrame]]:
    """(model, data set, eps), and the attacks that were run there on the cases that all have."""
    for (model, dataset, _, budget), part in table.groupby(KEYS[:-1], sort=True):
        yield (model, dataset, float(budget)), part.dropna(axis=1, how="all").dropna()


def report(table: DataFrame, spent: DataFrame, specs: Specs) -> Iterator[str]:
    """Markdown: per model and eps a table of attacks by gradients, then who is behind.

    Args:
        table, spent: the scores, and the gradients that each of them took.
        specs: the attacks.
    """
    budgets = eps_names(("linf", budget) for budget in table.index.get_level_values("budget"))
    for (model, dataset, budget), part in parts(table):
        eps, mean = budgets["linf", budget], part.mean()
        yield f"\n{model} on {dataset}, {eps}, {len(part)} cases; gradients a case:\n"
        yield from _matrix(specs, mean)
        took = spent.loc[part.index]
        if DEFAULT in mean:
            yield _took("standard", DEFAULT[1], took[DEFAULT].tolist())
            yield from _behind(part)
        if QUICK in mean:
            yield _took("standard, quick", QUICK[1], took[QUICK].tolist())
            if DEFAULT in mean:
                yield f"\nstandard, quick against standard: {mean[QUICK] - mean[DEFAULT]:+.4f}"


def _took(name: str, most: int, spent: list[float]) -> str:
    """The gradients of each case."""
    listed, mean = ", ".join(f"{number:.0f}" for number in spent), sum(spent) / len(spent)
    return f"\n{name} ({most} at most) took {mean:.0f} gradients in the mean: {listed}"


def _behind(part: DataFrame) -> Iterator[str]:
    """What the default leaves above the best of all others."""
    others = part[[key for key in part.columns if not is_standard(key[0])]]
    if others.empty:
        return
    means = others.mean()
    gap = part[DEFAULT].mean() - means.min()
    name, n = means.idxmin()
    yield f"\nstandard against the lowest other mean, {name} ({n}): {gap:+.4f}"
    each = part[DEFAULT] - others.min(axis=1)
    for key, value in each[each > BEHIND].items():
        name, n = others.loc[key].idxmin()
        yield f"- behind on {key[-1]}: {value:+.3f} ({name}, {n})"


def optimality(tables: Tables, specs: Specs) -> Iterator[str]:
    """Markdown: how close attacks come to the best known curve of their network."""
    known = [(load_attack(text), key) for key, text in specs.items()]
    named = {
        label: key
        for label, parameters in tables.attacks.items()
        for attack, key in known
        if is_by(label, attack) and parameters == attack.parameters
    }
    compared = tables.optimality[tables.optimality["left_out"] == ""]
    rows = compared[compared["attack"].isin(named)]
    for (model, dataset), part in rows.groupby(["model", "dataset"], observed=True):
        keys = part["attack"].map(named)
        values = dict(zip(keys, part["optimality"], strict=True))
        yield f"\n{model} on {dataset}: optimality over the eps above; gradients a case:\n"
        yield from _matrix(specs, values)


def _matrix(specs: Specs, values: Mapping[tuple[str, int], float]) -> Iterator[str]:
    """A table of attacks by gradients, of those that have a value."""
    run = [key for key in specs if key in values]
    numbers, names = sorted({n for _, n in run}), dict.fromkeys(name for name, _ in run)
    yield f"| attack | {' | '.join(map(str, numbers))} |"
    yield f"|---{'|---' * len(numbers)}|"
    for name in names:
        cells = [f"{values[name, n]:.3f}" if (name, n) in values else "" for n in numbers]
        yield f"| {name} | {' | '.join(cells)} |"


def draw(table: DataFrame, path: Path) -> None:
    """A panel per network and eps: the mean score against gradients, a line per attack."""
    from matplotlib import pyplot
    from matplotlib.ticker import NullFormatter

    panels = list(parts(table))
    rows = -(-len(panels) // 3)
    figure, axes = pyplot.subplots(rows, 3, figsize=(15, 3.6 * rows), squeeze=False)
    others = dict.fromkeys(name for name, _ in table.columns if not is_standard(name))
    names, colours = [*others, "standard", QUICK[0]], pyplot.get_cmap("tab20")
    for axis, ((model, dataset, budget), part) in zip(axes.flat, panels, strict=False):
        for k, name in enumerate(names):
            mean = part.mean()
            own = [key for key in part.columns if key[0] == name or _is_version(name, key[0])]
            points = sorted((n, mean[other, n]) for other, n in own)
            style = {"color": colours(k % 20), "marker": "o", "ms": 3}
            if is_standard(name):
                style = {"color": "black", "lw": 2.5, "marker": "ox"[name == QUICK[0]], "ms": 6}
            if points:
                axis.plot(*zip(*points, strict=True), label=name, **style)
        axis.set(title=f"{model}\n{dataset}, {255 * budget:g}/255", xscale="log")
        axis.xaxis.set_minor_formatter(NullFormatter())
    for axis in list(axes.flat)[len(panels) :]:
        axis.set_axis_off()
    handles = {t: h for a in axes.flat for h, t in zip(*a.get_legend_handles_labels(), strict=True)}
    figure.legend(handles.values(), handles.keys(), loc="lower center", ncols=6, frameon=False)
    foot = 0.04 * -(-len(handles) // 6)
    figure.supxlabel("gradients a case", y=foot)
    figure.supylabel("mean Jaccard")
    figure.tight_layout(rect=(0.02, foot + 0.02, 1, 1))
    figure.savefig(path)


def _is_version(name: str, other: str) -> bool:
    """Whether that is another version of it, at the same cost."""
    return other.startswith(f"{name}@") and "quick" not in other


def _numbers(text: str) -> list[int]:
    return [int(item) for item in text.split(",") if item]


@click.command(cls=Script, help=__doc__)
@click.option("-m", "--model", multiple=True, help="[default: every checkpoint]")
@click.option("-a", "--attack", multiple=True, type=click.Choice(list(ATTACKS)), help="[all]")
@click.option("--dataset")
@click.option("--data-root", type=click.Path(path_type=Path, exists=True, file_okay=False))
@click.option("--limit", type=int, help="At most so many cases.")
@click.option("--eps", default="1/255,2/255,4/255,8/255", show_default=True)
@click.option("--gradients", default=",".join(map(str, EVERY)), show_default=True)
@click.option(
    "--costs", default="1145,1177", show_default=True, help=f"Of {', '.join(map(str, STANDARD))}."
)
@click.option("--device")
@workspace_option
@click.option("--out", type=click.Path(path_type=Path), default=Path("strength.md"))
@click.option("--show", is_flag=True, help="Attack nothing; show what the workspace holds.")
@click.option("--plot", type=click.Path(path_type=Path), help="An SVG of it [needs matplotlib].")
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
    show: bool,
    plot: Path | None,
) -> None:
    """Attack, compare, write."""
    if unknown := set(_numbers(costs)) - STANDARD.keys():
        raise click.BadParameter(f"{min(unknown)} is not one of {', '.join(map(str, STANDARD))}")
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
    if not show:
        evaluate(validated(Request, asked), workspace)
    specs = attack_specs(list(ATTACKS), COLUMNS, list(STANDARD))
    tables = load_tables(workspace, every=True)
    table, spent = scores(tables.cases, specs), scores(tables.cases, specs, "backwards")
    text = "\n".join([*report(table, spent, specs), *optimality(tables, specs)])
    out.write_text(text + "\n")
    if plot:
        draw(table, plot)
    click.echo(text)


if __name__ == "__main__":
    main()
