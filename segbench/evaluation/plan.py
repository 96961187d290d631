"""From a request to what is computed: attacks and budgets, and each network with its data.

Everything that can be refused is refused here, before the first network is trained or loaded.
"""

from __future__ import annotations

from collections.abc import Sequence

from segbench.api import BringsBudgets, Dataset, TransferAttack
from segbench.data import open_dataset
from segbench.errors import UserError
from segbench.evaluation.goals import check_goal
from segbench.evaluation.grid import Grid
from segbench.evaluation.request import DataSource, Request
from segbench.evaluation.taken import take_asked
from segbench.evaluation.transfer_source import find_source
from segbench.networks import ModelReference, data_of, resolve_models, trained_within
from segbench.plugins.attack import attack_budgets, load_attacks
from segbench.plugins.spec import canonical
from segbench.store.workspace import Workspace


def plan_grid(request: Request) -> Grid:
    """The attacks, their budgets and the seeds.

    Raises:
        UserError: an attack cannot be made, or it and the eps values cannot go together.
    """
    if (request.shard or request.part) and request.until_settled:
        raise UserError(
            f"until-settled needs the whole grid, not its part {request.shard or request.part}: "
            "attack all parts first, then once more without"
        )
    if request.shard and request.part:
        raise UserError(f"shard {request.shard} and part {request.part}: give one")
    certificates = [*request.certify.certificates] if request.certify else []
    if not request.attacks and not certificates:
        raise UserError("attacks = []; expected one entry or more")
    attacks = load_attacks(request.attacks)
    for attack in attacks:
        attack_budgets(attack, request.eps)
    if any(request.eps) and all(isinstance(a.attack, BringsBudgets) for a in attacks):
        names = ", ".join([a.label for a in attacks] + [c.label for c in certificates])
        raise UserError(f"eps means nothing to budgets other than a norm's ({names}); leave it out")
    return Grid(attacks, request.eps, request.seeds, certificates=certificates)


def find_sources(grid: Grid, workspace: Workspace) -> None:
    """UserError unless every transfer attack's source is a checkpoint of the workspace."""
    for attack in grid.attacks:
        if isinstance(attack.attack, TransferAttack):
            find_source(attack.attack.source, workspace)


def find_models(request: Request, workspace: Workspace) -> list[ModelReference]:
    """The networks that are asked for, not yet loaded.

    Raises:
        UserError: see ``resolve_models``.
    """
    return resolve_models(request.models, workspace, request.weights, request.wishes)


def pair_with_data(
    references: Sequence[ModelReference], request: Request
) -> list[tuple[ModelReference, DataSource]]:
    """Each network with the data it is attacked on: the named set, or the one its card names.

    Raises:
        UserError: no data are named, or they cannot be used.
    """
    datasets: dict[str, Dataset] = {}
    opened: dict[tuple[str, bool], DataSource] = {}
    pairs = []
    for reference in references:
        text = request.dataset or _named_by_card(reference)
        cards = {checkpoint.card.dataset_spec for checkpoint in trained_within(reference)}
        trained = cards == {canonical(text)}
        if text not in datasets:
            datasets[text] = open_dataset(text, request.data_root)
        if (text, trained) not in opened:
            opened[text, trained] = take_asked(text, datasets[text], request, trained=trained)
        pairs.append((reference, opened[text, trained]))
    return pairs


def check_goals(grid: Grid, data: DataSource) -> None:
    """UserError for a target that the data do not have."""
    for attack in grid.attacks:
        check_goal(data, attack)


def _named_by_card(reference: ModelReference) -> str:
    if named := data_of(reference):
        return named
    raise UserError(f"model {reference.name} has no card; name its data with --dataset")
