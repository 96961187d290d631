"""Transfer: images of one network, made once, scored on the others; and the matrix of it."""

from __future__ import annotations

import json
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from toys import Silence

from segbench.data import load_dataset
from segbench.errors import UserError
from segbench.evaluation import worker
from segbench.evaluation.cell import attack_hash
from segbench.evaluation.grid import Grid, take_cases
from segbench.evaluation.model_run import run_model
from segbench.evaluation.request import DataSource, Options, select_data
from segbench.evaluation.transfer_source import find_source
from segbench.networks import CheckpointReference, resolve_models
from segbench.plugins.attack import load_attack
from segbench.store import rowfile
from segbench.store.images import kept_cells
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace
from segbench.tables.build import build_tables
from segbench.tables.transfers import transfer_matrices
from segbench_reports.markdown import render

DATA = "phantom-cxr:size=32,train_cases=12,test_cases=3"
WIDE, NARROW = "unet:width=4,depth=2", "unet:width=2,depth=2"
SAME = [name for name in rowfile.COLUMNS if name != "seconds"]
OPTIONS = Options("fp32", "cpu", 2)


class Making(Silence):
    """Hears of cases that are read, and of images that are made against a source."""

    def busy(self, what: str) -> None:
        assert what.startswith(("reading 3 cases of ", "making images against "))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Workspace:
    """A workspace with two small networks, briefly trained."""
    from segbench.cli.training import train_models

    made = Workspace(tmp_path_factory.mktemp("transfer"))
    train_models((WIDE, NARROW), DATA, None, epochs=6, device="cpu", workspace=made)
    return made


@pytest.fixture
def workspace(trained: Workspace, tmp_path: Path) -> Workspace:
    return Workspace(shutil.copytree(trained.root, tmp_path / "runs"))


def transfers(*sources: str, attack: str = "pgd:steps=4") -> list[Any]:
    return [load_attack(f'transfer:source="{text}",attack="{attack}"') for text in sources]


def run(
    workspace: Workspace, attacks: list[Any], order: int = 1, options: Options = OPTIONS
) -> pd.DataFrame:
    """All rows, once every network of the workspace has met the attacks."""
    data: DataSource = select_data(DATA, load_dataset(DATA), "test", None)
    for reference in resolve_models([], workspace)[::order]:
        run_model(reference, data, Grid(attacks[::order], [Fraction(8, 255)]), workspace,
                  options, Making())  # fmt: skip
    return read_rows(workspace)


def test_neither_order_nor_resume_nor_company_changes_a_row(
    workspace: Workspace, trained: Workspace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    attacks = transfers(WIDE, NARROW)
    forward = run(workspace, attacks)
    other = Workspace(shutil.copytree(trained.root, tmp_path / "other"))
    made: list[tuple[str, str]] = []
    attack = worker.attack_cases

    def noted(network: Any, batch: Any, cell: Any, *more: Any) -> Any:
        made.append((network.name, cell.label))
        return attack(network, batch, cell, *more)

    monkeypatch.setattr(worker, "attack_cases", noted)
    white = load_attack("pgd:steps=4")
    with monkeypatch.context() as patched:
        patched.setattr(worker, "score_cases", _die_under("transfer"))
        with pytest.raises(KeyboardInterrupt):
            run(other, attacks, order=-1)
    backward = run(other, [white, *attacks], order=-1)
    pd.testing.assert_frame_equal(
        backward[backward["attack"] != "pgd:steps=4"][SAME].reset_index(drop=True), forward[SAME]
    )
    attacked = [pair for pair in made if pair[1] != "clean"]
    assert len(attacked) == 2 * 2  # two batches on each source: once, whoever asks
    diagonal = backward[backward["model"] == backward["attack_params"].map(_source)]
    own = backward[backward["attack"] == "pgd:steps=4"]
    assert diagonal["jaccard"].tolist() == own["jaccard"].tolist()


def _source(params: str) -> str:
    return str(json.loads(params).get("source"))


def _die_under(attack: str) -> Any:
    score = worker.score_cases

    def killed(network: Any, batch: Any, cell: Any, *more: Any, **rest: Any) -> Any:
        if cell.label.startswith(attack):
            raise KeyboardInterrupt
        return score(network, batch, cell, *more, **rest)

    return killed


def test_the_matrix_has_every_source_and_target(workspace: Workspace) -> None:
    quantized = Options("fp32", "cpu", 2, quantize=True)
    tables = build_tables(run(workspace, transfers(WIDE, NARROW), options=quantized))
    plain, rounded = transfer_matrices(tables.curves)
    names = [reference.name for reference in resolve_models([], workspace)]
    assert plain.eps == rounded.eps == "8/255"
    assert rounded.attack == f"{plain.attack} (quantized)"
    for matrix in (plain, rounded):
        assert list(matrix.scores.index) == list(matrix.scores.columns) == names
    curves = tables.curves[tables.curves["metric"] == "jaccard"]
    for curve in curves[curves["attack"].str.startswith("transfer")].itertuples():
        matrix = rounded if "quantized" in str(curve.attack) else plain
        assert matrix.scores.loc[_source(str(curve.attack_params)), curve.model] == curve.mean
    text = render(tables)
    assert "at eps 8/255" in text
    assert f"| {names[0]} | {plain.scores.iloc[0, 0]:.3f} | {plain.scores.iloc[0, 1]:.3f} |" in (
        " ".join(text.split()).replace(" |", " |")
    )


def test_images_lie_with_their_source(workspace: Workspace) -> None:
    run(workspace, transfers(WIDE))
    source = find_source(WIDE, workspace).name
    curves = build_tables(read_rows(workspace)).curves
    assert set(curves["attack"]) == {f'transfer:source="{source}"'}
    (cell,) = kept_cells(workspace)
    assert cell.attack == "pgd:steps=4"
    assert cell.model == source


def test_a_source_and_its_attack_may_be_written_in_any_way(workspace: Workspace) -> None:
    before = run(workspace, transfers(WIDE))
    folder = find_source(WIDE, workspace).name
    after = run(workspace, transfers(folder, attack="pgd:steps=4,restarts=1"))
    pd.testing.assert_frame_equal(after, before)  # the time that it took included


def test_what_a_transfer_does_hangs_on_its_source_and_on_its_attack(workspace: Workspace) -> None:
    wide, narrow = transfers(WIDE, NARROW)
    (other,) = transfers(WIDE, attack="ifgsm")
    assert len({attack_hash(attack, workspace) for attack in (wide, narrow, other)}) == 3
    rows = run(workspace, [wide])
    assert set(rows["attack_sha256"]) == {"", attack_hash(wide, workspace)}


def test_a_source_that_is_not_one_checkpoint_is_refused(workspace: Workspace) -> None:
    with pytest.raises(UserError, match="no trained checkpoint of 'unet:width=8'"):
        find_source("unet:width=8", workspace)
    with pytest.raises(UserError, match="is no checkpoint"):
        find_source("net.py:build", workspace)
    (found,) = resolve_models([WIDE], workspace)
    assert isinstance(found, CheckpointReference)
    shutil.copytree(found.folder, found.folder.with_name(found.name.replace("#0", "#1")))
    with pytest.raises(UserError, match=r"means several checkpoints; name one of .*#0, .*#1"):
        find_source(WIDE, workspace)
    assert find_source(found.name, workspace) == found


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("transfer", "transfer needs a source"),
        ('transfer:source=unet,attack="nothing"', "unknown attack 'nothing'"),
        ('transfer:source=unet,attack="patch"', "no budget in a norm"),
        ('transfer:source=unet,attack="transfer:source=unet"', "no budget in a norm"),
    ],
)
def test_what_makes_no_transfer_is_refused(text: str, words: str) -> None:
    with pytest.raises(UserError, match=words):
        load_attack(text)


def test_images_of_an_attack_that_was_fitted_on_their_own_case_are_marked(
    workspace: Workspace,
) -> None:
    data = select_data(DATA, load_dataset(DATA), "train", 3)
    (reference,) = (r for r in resolve_models([], workspace) if "width=2" in r.name)
    attack = transfers(WIDE, attack="uap:epochs=1,batch=4,cases=1")
    run_model(reference, data, Grid(attack, [Fraction(8, 255)]), workspace, OPTIONS, Silence())
    rows = read_rows(workspace)
    rows = rows[rows["attack"] != "clean"]
    marked = rows.loc[rows["marks"].str.contains("fitted-case"), "case_id"]
    (learnt,) = take_cases(data.dataset.entries("train"), 1)
    assert set(marked) == {learnt.case_id} & set(rows["case_id"])
    assert len(rows["case_id"].unique()) == 3
