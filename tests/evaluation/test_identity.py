"""The laws of identity: what is reused, what is another result, and what is shown of it."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from toys import Ready, Silence

from segbench.api import Case
from segbench.data.layouts.folder import Folder
from segbench.engine.network import Network
from segbench.errors import MachineError, UserError
from segbench.evaluation import case_cache, grid
from segbench.evaluation.grid import Grid
from segbench.evaluation.request import DataSource, Options, select_data
from segbench.evaluation.run import refuse_failures, run_grid
from segbench.evaluation.subject import Subject
from segbench.networks import LoadedModel
from segbench.networks.met import Met
from segbench.networks.normalize import Normalization
from segbench.plugins.attack import load_attack
from segbench.store import rowfile
from segbench.store.rows import read_rows
from segbench.store.runs import RunRecord, read_runs
from segbench.store.workspace import Workspace
from segbench.tables.load import load_tables

OPTIONS = Options("fp32", "cpu", 2)
GRID = Grid([load_attack("pgd:steps=3,restarts=2")], [Fraction(4, 255)])
VALUES = [n for n in rowfile.COLUMNS if n not in ("seconds", "dataset_fingerprint", "split")]


class Dark(nn.Module):
    """Lungs are what is dark, by a local mean."""

    shift = 0.5

    def forward(self, images: Tensor) -> Tensor:
        return 12 * (self.shift - nn.functional.avg_pool2d(images, 5, 1, 2))


class Darker(Dark):
    """The same weights (none), and another number in its forward."""

    shift = 0.45


class Count(Silence):
    """What was computed and found, and what was warned of."""

    def __init__(self) -> None:
        self.computed = self.found = 0
        self.warnings: list[str] = []

    def cases(self, computed: int, found: int) -> None:
        self.computed += computed
        self.found += found

    def warn(self, sentence: str) -> None:
        self.warnings.append(sentence)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    """A folder of six pairs, split by a file."""
    root = tmp_path / "pictures"
    for number in range(6):
        add_pair(root, number)
    write_split(root, range(2, 6))
    return root


def add_pair(root: Path, number: int, seed: int | None = None) -> None:
    random = np.random.default_rng(number if seed is None else seed)
    mask = np.zeros((16, 16), np.uint8)
    down, right = random.integers(2, 8, 2)
    mask[down : down + 6, right : right + 6] = 255
    image = np.where(mask > 0, 70, 170) + random.integers(-40, 40, mask.shape)
    for folder, pixels in (("images", image.astype(np.uint8)), ("masks", mask)):
        (root / folder).mkdir(parents=True, exist_ok=True)
        Image.fromarray(pixels).save(root / folder / f"p{number}.png")


def write_split(root: Path, test: Sequence[int]) -> None:
    lines = [f"p{n},{'test' if n in test else 'train'}" for n in range(16)]
    there = [line for line in lines if (root / "images" / f"{line.split(',')[0]}.png").exists()]
    (root / "split.csv").write_text("case_id,split\n" + "\n".join(there) + "\n")


def source(root: Path, limit: int | None = None, split: str = "test") -> DataSource:
    return select_data("folder:split=split.csv", Folder(root=root, split="split.csv"), split, limit)


def run(
    runs: Path,
    data: DataSource,
    kind: Any = Dark,
    options: Options = OPTIONS,
    grid: Grid = GRID,
    model: Any = None,
) -> tuple[RunRecord, Count]:
    count = Count()
    reference = model or Ready(kind)
    return run_grid([(reference, data)], grid, Workspace(runs), options, count), count


def shown(runs: Path, record: RunRecord | None = None, **options: Any) -> pd.DataFrame:
    rows = load_tables(Workspace(runs), run=record, **options).rows
    return rows.sort_values(["attack", "budget", "case_id", "class_id"], ignore_index=True)


@pytest.mark.parametrize("order", [(2, 4, None), (None, 4, 2), (4, None, 2)])
def test_a_case_is_computed_once_whatever_the_limit_and_the_order(
    pictures: Path, tmp_path: Path, order: tuple[int | None, ...]
) -> None:
    computed = []
    seen: set[str] = set()
    for limit in order:
        data = source(pictures, limit)
        new = {entry.case_id for entry in data.entries} - seen
        seen |= new
        record, count = run(tmp_path / "runs", data)
        computed.append(count.computed)
        assert count.computed == 2 * len(new)  # clean, and one attack
        assert set(shown(tmp_path / "runs", record)["case_id"]) == {
            entry.case_id for entry in data.entries
        }
    run(tmp_path / "whole", source(pictures))
    pd.testing.assert_frame_equal(
        shown(tmp_path / "runs")[VALUES], shown(tmp_path / "whole")[VALUES], atol=1e-4
    )


class Told(Dark):
    """A network whose file read a number when it was imported: nothing of it says which."""

    read = (0.5,)

    def forward(self, images: Tensor) -> Tensor:
        return 12 * (self.read[0] - nn.functional.avg_pool2d(images, 5, 1, 2))


@pytest.mark.parametrize("writable", [True, False])
def test_rows_are_not_found_where_the_network_answers_otherwise_than_when_they_were_made(
    writable: bool, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, data = tmp_path / "runs", source(pictures, 2)
    before, _ = run(runs, data, Told)
    assert run(runs, data, Told)[1].found == 4
    monkeypatch.setattr(Told, "read", (0.45,))
    if not writable:

        def refuse(root: Path) -> None:
            raise MachineError("read-only")

        monkeypatch.setattr("segbench.evaluation.run.check_writable", refuse)
    # Also where some is still to be computed; computed anew, a part would stand beside the rest.
    for more, fresh in ((data, False), (source(pictures), False), (source(pictures, 1), True)):
        with pytest.raises(UserError, match=r"was 0\.\d+ and is 0\.\d+.* in another --workspace"):
            run(runs, more, Told, replace(OPTIONS, fresh=fresh))
    if writable:
        now, count = run(tmp_path / "now", data, Told)
        assert count.computed == 4
        scores = shown(tmp_path / "now", now)["jaccard"]
        assert not scores.equals(shown(runs, before)["jaccard"])


def test_a_pixel_that_turns_between_two_devices_is_no_other_network(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Corner(Told):
        def forward(self, images: Tensor) -> Tensor:
            answer = Dark.forward(self, images)
            answer.flatten(-2)[..., : int(self.read[0])] = -5
            return answer

    runs, data = tmp_path / "runs", source(pictures, 1)
    for pixels, fits in ((1, True), (2, True), (32, False)):
        monkeypatch.setattr(Told, "read", (pixels,))
        refused = pytest.raises(UserError, match="is not what its stored scores are of")
        with nullcontext() if fits else refused:
            run(runs, data, Corner)


def test_rows_of_a_network_that_draws_are_found(pictures: Path, tmp_path: Path) -> None:
    class Drawing(Dark):
        def forward(self, images: Tensor) -> Tensor:
            answer: Tensor = super().forward(images)
            return answer + 4 * torch.randn_like(answer)

    for _ in range(2):
        _, count = run(tmp_path / "runs", source(pictures), Drawing)
    assert (count.computed, count.found) == (0, 8)


def test_what_is_found_out_about_a_network_is_so_whichever_cases_are_asked_for(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its precision and marks are in no key; they are of its data set."""
    prepared: list[list[str]] = []
    prepare = Subject.prepare

    def noted(subject: Subject, probe: Sequence[Case], options: Options) -> Network:
        prepared.append([case.case_id for case in probe])
        return prepare(subject, probe, options)

    monkeypatch.setattr(Subject, "prepare", noted)
    whole = source(pictures)
    last = replace(whole, entries=whole.entries[-1:])
    for place, data in enumerate((whole, last, source(pictures, 1), source(pictures, 2, "train"))):
        run(tmp_path / f"runs{place}", data)
    assert prepared == 4 * [["p0", "p1"]]

    def load(dataset: Folder, case_id: str) -> Case:
        if case_id == "p0":
            raise UserError("p0 cannot be read")
        return dataset.load(case_id)

    monkeypatch.setattr("segbench.evaluation.subject.load_case", load)
    run(tmp_path / "runs", source(pictures))
    assert prepared[-1] == ["p1", "p2"]


def test_to_the_bit_at_one_batch_size(pictures: Path, tmp_path: Path) -> None:
    alone = replace(OPTIONS, batch_size=1)
    for limit in (1, 3, None):
        run(tmp_path / "runs", source(pictures, limit), options=alone)
    run(tmp_path / "whole", source(pictures), options=alone)
    left, right = shown(tmp_path / "runs"), shown(tmp_path / "whole")
    pd.testing.assert_frame_equal(left[VALUES], right[VALUES], check_exact=True)


def test_a_folder_that_grew_another_split_and_another_name_reuse_every_row(
    pictures: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    assert run(runs, source(pictures))[1].computed == 8
    for number in (6, 7):
        add_pair(pictures, number)
    write_split(pictures, range(2, 8))
    record, count = run(runs, source(pictures))
    assert (count.computed, count.found) == (4, 8)
    assert shown(runs, record)["case_id"].nunique() == 6
    write_split(pictures, (0, 2, 7))
    record, count = run(runs, source(pictures))
    assert count.computed == 2  # p0 alone was never asked for
    assert sorted(shown(runs, record)["case_id"].unique()) == ["p0", "p2", "p7"]
    (pictures / "images" / "p2.png").rename(pictures / "images" / "renamed.png")
    (pictures / "masks" / "p2.png").rename(pictures / "masks" / "renamed.png")
    text = (pictures / "split.csv").read_text().replace("p2,", "renamed,")
    (pictures / "split.csv").write_text(text)
    record, count = run(runs, source(pictures))
    assert count.computed == 0
    assert "renamed" in set(shown(runs, record)["case_id"])
    everything = shown(runs)  # where it counts once, as do all others
    assert not {"p2", "renamed"} <= set(everything["case_id"])
    assert everything["case_sha256"].nunique() == everything["case_id"].nunique() == 7


def test_a_case_that_lies_there_twice_counts_twice_where_both_were_asked_for(
    pictures: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    run(runs, source(pictures), model=Ready(Dark, "before"))
    add_pair(pictures, 6, seed=5)  # p5 again
    write_split(pictures, range(2, 7))
    run(runs, source(pictures), model=Ready(Dark, "after"))
    found = {name: set(part["case_id"]) for name, part in shown(runs).groupby("model")}
    assert found == {"after": {f"p{n}" for n in range(2, 7)}, "before": {"p2", "p3", "p4", "p5"}}


def test_versions_of_a_data_set_that_a_later_one_joins_are_one(
    pictures: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    for test in ((2, 3), (4, 5), (2, 3, 4, 5)):
        write_split(pictures, test)
        run(runs, source(pictures))
    assert load_tables(Workspace(runs), depth="summary").cases["dataset"].unique().tolist() == [
        "folder:split=split.csv"
    ]
    assert shown(runs)["case_id"].value_counts().eq(2).all()  # clean, and one attack


def test_a_changed_image_or_mask_is_another_case(pictures: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    before, _ = run(runs, source(pictures))
    old = shown(runs, before).set_index(["attack", "case_id"])["jaccard"]
    add_pair(pictures, 3, seed=99)
    record, count = run(runs, source(pictures))
    assert count.computed == 2
    rows = shown(runs, record)
    assert len(rows) == 8
    new = rows.set_index(["attack", "case_id"])["jaccard"]
    changed = old.index[(old - new).abs() > 1e-6]
    assert set(changed.get_level_values("case_id")) == {"p3"}
    pd.testing.assert_frame_equal(shown(runs)[VALUES], rows[VALUES])
    assert any(
        "Left out: 2 rows" in note for note in load_tables(Workspace(runs), depth="summary").notes
    )


class Sloped(nn.Module):
    """The organ is what is bright; voxels further along the first axis seem brighter."""

    def forward(self, images: Tensor) -> Tensor:
        slope = torch.linspace(0, 0.6, images.shape[2]).reshape(-1, 1, 1)
        return 12 * (images + slope - 0.8)


class SlopedInFile(Sloped):
    """The same along the first axis of the case's file, as nnU-Net sees it."""

    def meet(self, case: Case) -> None:
        self.met = Met(case)

    def forward(self, images: Tensor) -> Tensor:
        turned = torch.stack([self.met.of_file(image) for image in images])
        return torch.stack([self.met.canonical(logits) for logits in super().forward(turned)])


def save_volumes(root: Path, *axes: str) -> DataSource:
    """Volumes whose voxels are always the same in space, each along axes such as ``RAS``."""
    for number, codes in enumerate((*axes, "RAS")):  # the last one is of the split train
        image = np.random.default_rng(number).uniform(0, 1, (6, 8, 10)).astype(np.float32)
        turn = nibabel.orientations.axcodes2ornt(tuple(codes))
        for folder, voxels in (("images", image), ("masks", (image > 0.5).astype(np.uint8))):
            (root / folder).mkdir(parents=True, exist_ok=True)
            saved = nibabel.Nifti1Image(voxels, np.eye(4)).as_reoriented(
                nibabel.orientations.ornt_transform(
                    nibabel.orientations.axcodes2ornt(("R", "A", "S")), turn
                )
            )
            nibabel.Nifti1Image(np.asarray(saved.dataobj), saved.affine).to_filename(
                root / folder / f"v{number}.nii.gz"
            )
    lines = [f"v{n},{'test' if n < len(axes) else 'train'}\n" for n in range(len(axes) + 1)]
    (root / "split.csv").write_text("case_id,split\n" + "".join(lines))
    volumes = Folder(root=root, mode="volumes", split="split.csv")
    return select_data("folder:mode=volumes,split=split.csv", volumes, "test", None)


@pytest.mark.parametrize("before", [("RAS", "RAS"), ("LPS", "RAS")])
def test_a_file_turned_is_another_case_to_a_network_that_sees_its_axes_and_to_no_other(
    tmp_path: Path, before: tuple[str, ...]
) -> None:
    runs, root = tmp_path / "runs", tmp_path / "data"
    for kind, anew in ((Sloped, 0), (SlopedInFile, 4)):
        run(runs, save_volumes(root, *before), kind)
        assert run(runs, save_volumes(root, *before), kind)[1].computed == 0
        turned, count = run(runs, save_volumes(root, "PSL", "PSL"), kind)
        assert (count.computed, count.found) == (anew, 4 - anew)
        fresh, _ = run(tmp_path / kind.__name__, save_volumes(root, "PSL", "PSL"), kind)
        pd.testing.assert_frame_equal(
            shown(runs, turned)[VALUES], shown(tmp_path / kind.__name__, fresh)[VALUES]
        )


def test_one_volume_along_two_axes_is_no_two_cases_of_a_network_that_sees_them(
    tmp_path: Path,
) -> None:
    runs, root = tmp_path / "runs", tmp_path / "data"
    save_volumes(root, "RAS")
    save_volumes(tmp_path / "other", "LPS")
    for folder in ("images", "masks"):
        shutil.copy(tmp_path / "other" / folder / "v0.nii.gz", root / folder / "v7.nii.gz")
    (root / "split.csv").write_text("case_id,split\nv0,test\nv7,test\nv1,train\n")
    volumes = Folder(root=root, mode="volumes", split="split.csv")
    data = select_data("folder:mode=volumes", volumes, "test", None)
    run(runs, data, Sloped)
    with pytest.raises(UserError, match="cases v0 and v7 are the same volume, along RAS in one"):
        run(runs, data, SlopedInFile)


def test_more_cases_join_those_whose_files_have_the_same_axes(tmp_path: Path) -> None:
    runs, root = tmp_path / "runs", tmp_path / "data"
    run(runs, save_volumes(root, "LPS", "LPS"), SlopedInFile)
    _, count = run(runs, save_volumes(root, "LPS", "LPS", "LPS"), SlopedInFile)
    assert (count.computed, count.found) == (2, 4)


@dataclass(frozen=True)
class Own:
    """A network as one of the user's own, with what is put around it."""

    module: nn.Module
    normalization: Normalization | None = None
    source: str = "aa" * 32
    name: str = "net:build"

    def load(self, dataset: Any) -> LoadedModel:
        facts = {"source": self.source, "layers": "bb" * 32}
        return LoadedModel(self.module, "ab" * 32, facts, True, self.normalization)


@pytest.mark.parametrize(
    "other",
    [
        Own(Darker(), source="cc" * 32),
        Own(Dark(), Normalization((0.1,), (1.0,))),
        Own(Dark(), Normalization((0.0,), (1.1,))),
    ],
    ids=["another forward", "another mean", "another scale"],
)
def test_two_networks_of_one_state_dict_never_erase_each_other(
    pictures: Path, tmp_path: Path, other: Own
) -> None:
    runs, data = tmp_path / "runs", source(pictures)
    first, _ = run(runs, data, model=Own(Dark()))
    mine = shown(runs, first)
    second, count = run(runs, data, model=other)
    assert count.computed == 8
    theirs = shown(runs, second)
    assert not np.allclose(mine["jaccard"], theirs["jaccard"])
    again, count = run(runs, data, model=Own(Dark()))
    assert count.computed == 0
    pd.testing.assert_frame_equal(shown(runs, again), mine)
    pd.testing.assert_frame_equal(shown(runs)[VALUES], mine[VALUES])  # it was asked about last
    notes = load_tables(Workspace(runs), depth="summary").notes
    assert any("Left out: 8 rows" in note and "--all-weights" in note for note in notes)
    assert load_tables(Workspace(runs), every=True, depth="summary").summary["model"].nunique() == 2


def test_boundary_metrics_are_never_lost_and_never_asked_for_twice(
    pictures: Path, tmp_path: Path
) -> None:
    runs, data = tmp_path / "runs", source(pictures)
    measured, _ = run(runs, data, options=replace(OPTIONS, boundary=True))
    before = shown(runs, measured)
    assert before["hd95"].notna().all()
    plain, count = run(runs, data)
    assert count.computed == 0
    pd.testing.assert_frame_equal(shown(runs, plain), before)
    run(tmp_path / "other", data)
    record, count = run(tmp_path / "other", data, options=replace(OPTIONS, boundary=True))
    assert count.computed == 8
    pd.testing.assert_frame_equal(shown(tmp_path / "other", record)[VALUES], before[VALUES])


def test_lesions_are_counted_at_the_overlap_that_was_asked_for_last(
    pictures: Path, tmp_path: Path
) -> None:
    runs, data = tmp_path / "runs", source(pictures)
    record, _ = run(runs, data)
    plain = shown(runs, record)
    for overlap in (0.1, 0.0):
        record, count = run(runs, data, options=replace(OPTIONS, lesions=overlap))
        assert count.computed == 8
        rows = shown(runs, record)
        assert set(rows["lesion_overlap"]) == {overlap}
        assert (rows["lesions_found"] <= rows["lesions"]).all()
        others = [name for name in VALUES if not name.startswith("lesion")]
        pd.testing.assert_frame_equal(rows[others], plain[others])
    _, count = run(runs, data, options=replace(OPTIONS, lesions=0.0))
    assert count.computed == 0


def test_what_only_scoring_needs_attacks_nothing_again(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segbench.evaluation import worker

    runs, data = tmp_path / "runs", source(pictures)
    run(runs, data, options=replace(OPTIONS, save_adversarial=True))
    attack, attacked = worker.attack_cases, []

    def noted(network: Any, batch: Any, cell: Any, *more: Any) -> Any:
        attacked.append(cell.label)
        return attack(network, batch, cell, *more)

    monkeypatch.setattr(worker, "attack_cases", noted)
    record, _ = run(runs, data, options=replace(OPTIONS, boundary=True, save_adversarial=True))
    assert set(attacked) <= {"clean"}
    assert shown(runs, record)["hd95"].notna().all()


def test_fresh_computes_anew_and_its_rows_count(pictures: Path, tmp_path: Path) -> None:
    runs, data = tmp_path / "runs", source(pictures)
    run(runs, data)
    record, count = run(runs, data, options=replace(OPTIONS, fresh=True))
    assert count.computed == 8
    assert set(shown(runs, record)["run"]) == {2}


OWN = """
from dataclasses import dataclass

@dataclass(frozen=True)
class Darker:
    needs = "labels"
    budget_kind = "linf"

    def run(self, objective, images, goal, budget, noise):
        return (images - budget.eps).clamp(0, 1)
"""


class Fussy(Dark):
    """Refuses one image, whichever network it sits in."""

    def forward(self, images: Tensor) -> Tensor:
        if (images.flatten(1).mean(1) > 0.9).any():
            raise ValueError("cannot digest this image")
        return super().forward(images)


def test_one_bad_case_is_named_and_all_others_are_finished(pictures: Path, tmp_path: Path) -> None:
    runs = tmp_path / "runs"
    Image.fromarray(np.full((16, 16), 250, np.uint8)).save(pictures / "images" / "p4.png")
    record, count = run(runs, source(pictures), Fussy)
    assert record.status == "done"
    assert {failure.case_id for failure in record.failures} == {"p4"}
    with pytest.raises(MachineError, match=r"case p4: .*cannot digest this image"):
        refuse_failures(record)
    assert sorted(shown(runs, record)["case_id"].unique()) == ["p2", "p3", "p5"]
    assert count.computed == 6
    add_pair(pictures, 4)
    record, count = run(runs, source(pictures), Fussy)
    assert (count.computed, count.found) == (2, 6)  # what was missing, alone
    refuse_failures(record)


def test_files_that_can_no_longer_be_read_are_all_named_before_anything_runs(
    pictures: Path, tmp_path: Path
) -> None:
    data = source(pictures)
    for name in ("p3", "p5"):
        (pictures / "images" / f"{name}.png").write_bytes(b"no picture")
    with pytest.raises(UserError, match=r"images/p3\.png is not .*; images/p5\.png is not"):
        run(tmp_path / "runs", data)
    assert read_rows(Workspace(tmp_path / "runs")).empty


def test_a_file_that_goes_while_the_run_goes_on_is_named(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(case_cache, "_KEEP_BYTES", 0)
    monkeypatch.setattr(grid, "SHARD_CASES", 1)
    runs, data = tmp_path / "runs", source(pictures)

    class Sabotage(Count):
        def cell(self, model: str, cell: Any) -> None:
            if cell.attack:
                (pictures / "masks" / "p4.png").unlink()

    listener = Sabotage()
    record = run_grid([(Ready(Dark), data)], GRID, Workspace(runs), OPTIONS, listener)
    assert listener.computed == 7  # clean of all four, and the attack on three
    (failure,) = record.failures
    assert (failure.case_id, failure.attack) == ("p4", GRID.attacks[0].label)


class Broken(Dark):
    """Answers nothing but NaN."""

    def forward(self, images: Tensor) -> Tensor:
        return super().forward(images) * torch.nan


def test_a_network_that_fails_on_every_case_is_refused_at_once(
    pictures: Path, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="gives NaN or infinite logits"):
        run(tmp_path / "runs", source(pictures), Broken)
    (record,) = read_runs(Workspace(tmp_path / "runs"))
    assert record.status == "failed"
    assert "NaN" in str(record.reason)


class Drifting(nn.Module):
    """Darkens its threshold with every call after the twelfth."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        drift = 0.02 * max(0, self.calls - 12)
        return 12 * (0.5 - drift - nn.functional.avg_pool2d(images, 5, 1, 2))


def test_a_network_that_changes_while_it_is_attacked_is_refused(
    pictures: Path, tmp_path: Path
) -> None:
    runs = tmp_path / "runs"
    with pytest.raises(UserError, match="changed while it was attacked"):
        run(runs, source(pictures), Drifting)
    stored = read_rows(Workspace(runs))  # nothing of the changed network: what is stored is
    alone, _ = run(tmp_path / "once", source(pictures), Dark)  # what it was to begin with
    begun = shown(tmp_path / "once", alone).set_index(["attack", "case_id"])["jaccard"]
    for row in stored.itertuples():
        assert row.jaccard == pytest.approx(begun[row.attack, row.case_id], abs=1e-6)


class Learning(Dark):
    """Changes its own weights once it has been called often."""

    def __init__(self) -> None:
        super().__init__()
        self.weight, self.calls = nn.Parameter(torch.ones(())), 0

    def forward(self, images: Tensor) -> Tensor:
        self.calls += 1
        if self.calls > 12:
            self.weight.data += 1e-3
        return super().forward(images) * self.weight


def test_what_was_asked_for_last_and_is_not_there_is_told_of(
    pictures: Path, tmp_path: Path
) -> None:
    runs, own = tmp_path / "runs", tmp_path / "own.py"
    own.write_text(OWN)
    run(runs, source(pictures), grid=Grid([load_attack(f"{own}:Darker")], [Fraction(4, 255)]))
    assert not any(
        "are not there" in note for note in load_tables(Workspace(runs), depth="summary").notes
    )
    own.write_text(OWN.replace("return", "raise ValueError; return"))
    broken = Grid([load_attack(f"{own}:Darker")], [Fraction(4, 255)])
    with pytest.raises(MachineError):
        run(runs, source(pictures), grid=broken)
    notes = load_tables(Workspace(runs), depth="summary").notes
    assert any(
        "run-00002 (failed) asked for 4 scores of net that are not there" in note for note in notes
    )


def test_a_network_whose_weights_change_is_refused(pictures: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="changed while it was attacked: its weights"):
        run(tmp_path / "runs", source(pictures), Learning)


def test_a_stray_file_among_the_results_is_named_and_stops_nothing(
    pictures: Path, tmp_path: Path
) -> None:
    runs, data = tmp_path / "runs", source(pictures)
    run(runs, data)
    (runs / "results" / "copy.parquet").write_bytes(b"of another program")
    (runs / "results" / "notes.json").write_text("{}")
    record, count = run(runs, data)
    assert (count.computed, count.found) == (0, 8)
    assert any("copy.parquet" in sentence for sentence in count.warnings)
    notes = load_tables(Workspace(runs), run=record, depth="summary").notes
    assert any("copy.parquet" in note for note in notes)
    assert any("notes.json" in note for note in notes)


def test_a_minimum_norm_attack_is_decided_for_each_seed(pictures: Path, tmp_path: Path) -> None:
    runs, data = tmp_path / "runs", source(pictures)
    attacks = [load_attack("dag:below=0.5,steps=8"), load_attack("noise")]
    grid = Grid(attacks, [Fraction(8, 255), Fraction(64, 255)], seeds=(0, 1))
    record, _ = run(runs, data, grid=grid)
    tables = load_tables(Workspace(runs), run=record)
    (line,) = tables.distances.to_dict("records")
    assert (line["cases"], line["seeds"]) == (4, 2)
    dag = tables.rows[tables.rows["budget_kind"] == "min-norm"]
    fell = dag[dag["jaccard"] < 0.5]
    assert line["fell"] == len(fell)
    eps = 64 / 255
    clean = tables.rows[tables.rows["attack"] == "clean"].set_index("case_id")["jaccard"]
    near = (dag["jaccard"] < 0.5) & (dag["linf"] <= eps * (1 + 1e-6))
    expected = np.where(near, dag["jaccard"], clean[dag["case_id"]]).mean()
    curve = tables.curves[
        (tables.curves["metric"] == "jaccard") & (tables.curves["eps"] == "64/255")
    ]
    point = curve[curve["attack"].str.startswith("dag")]["mean"].item()
    assert point == pytest.approx(expected)


def test_a_killed_run_leaves_its_record_and_the_next_one_goes_on(
    pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segbench.evaluation import work

    runs, data, written = tmp_path / "runs", source(pictures), []
    append = work.append_shard

    def dying(*arguments: Any) -> Any:
        if len(written) == 1:
            raise KeyboardInterrupt
        written.append(append(*arguments))

    with monkeypatch.context() as patched:
        patched.setattr(work, "append_shard", dying)
        with pytest.raises(KeyboardInterrupt):
            run(runs, data)
    (record,) = read_runs(Workspace(runs))
    assert record.status == "interrupted"
    assert record.asked[0].model == "net"
    stored = len(read_rows(Workspace(runs)))
    assert 0 < stored <= 4
    _, count = run(runs, data)
    assert count.found == stored
    whole = shutil.copytree(runs, tmp_path / "copy")
    assert len(read_rows(Workspace(Path(whole)))) == 8


def test_of_several_networks_one_that_cannot_be_used_stops_no_other(
    pictures: Path, tmp_path: Path
) -> None:
    store, data, count = Workspace(tmp_path / "runs"), source(pictures), Count()
    pairs: Any = [
        (Own(Broken(), source="ee" * 32, name="broken"), data),
        (Ready(Dark, "dark"), data),
    ]
    record = run_grid(pairs, GRID, store, OPTIONS, count)
    assert record.status == "done"
    assert {(one.model, one.case_id) for one in record.failures} >= {("broken", "")}
    assert set(load_tables(store, run=record, depth="summary").summary["model"]) == {"dark"}
    with pytest.raises(MachineError, match=r"broken.*NaN or infinite logits"):
        refuse_failures(record)
    with pytest.raises(UserError, match="NaN or infinite logits"):
        run_grid([pairs[0]] * 2, GRID, store, OPTIONS, count)
    assert read_runs(store)[-1].status == "failed"
