"""What people hand over, read as it was meant: a threshold network, whose every score is known."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from segbench.store.rows import read_rows
from segbench.store.runs import read_runs
from segbench.store.workspace import Workspace

NET = """
import torch

class Bright(torch.nn.Module):
    def __init__(self, sign=1.0):
        super().__init__()
        self.gain = torch.nn.Parameter(torch.tensor(20.0 * sign))

    def forward(self, images):
        return self.gain * (images.mean(1, keepdim=True) - 0.5)

def build():
    return Bright()

def inverted():
    return Bright(-1.0)

class Two(torch.nn.Module):
    output = "sigmoid"

    def __init__(self):
        super().__init__()
        self.edges = torch.nn.Parameter(torch.tensor([0.3, 0.6]))

    def forward(self, images):
        return 20 * (images - self.edges.view(1, 2, 1, 1))
"""
Write = Callable[[Path, int, np.ndarray, np.ndarray], None]


def scene(number: int) -> tuple[np.ndarray, np.ndarray]:
    """A bright disc off the middle (48 x 40), and where it is."""
    random = np.random.default_rng(number)
    y, x = np.mgrid[:48, :40]
    disc = (y - random.uniform(10, 16)) ** 2 + (x - random.uniform(9, 14)) ** 2 < 60
    return np.where(disc, 200, 60).astype(np.uint8), disc


@pytest.fixture
def room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "net.py").write_text(NET)
    for name in ("images", "masks"):
        (tmp_path / "data" / name).mkdir(parents=True)
    return tmp_path / "data"


def plain(root: Path, n: int, image: np.ndarray, disc: np.ndarray) -> None:
    Image.fromarray(image).save(root / "images" / f"c{n}.png")
    Image.fromarray((disc * 255).astype(np.uint8)).save(root / "masks" / f"c{n}.png")


def turned(root: Path, n: int, image: np.ndarray, disc: np.ndarray) -> None:
    plain(root, n, image, disc)
    (root / "images" / f"c{n}.png").unlink()
    tag, back = ((3, -2), (6, 1), (8, -1))[n % 3]
    said = Image.Exif()
    said[0x0112] = tag
    stored = Image.fromarray(np.ascontiguousarray(np.rot90(image, back)))
    stored.save(root / "images" / f"c{n}.jpg", quality=95, exif=said)


def left_and_right(root: Path, n: int, image: np.ndarray, disc: np.ndarray) -> None:
    both = np.maximum(image, image[:, ::-1])
    Image.fromarray(both).save(root / "images" / f"c{n}.png")
    for side, mask in (("left", disc), ("right", disc[:, ::-1])):
        Image.fromarray((mask * 255).astype(np.uint8)).save(root / "masks" / f"c{n}_{side}.png")


def palettes(root: Path, n: int, image: np.ndarray, disc: np.ndarray) -> None:
    plain(root, n, image, disc)
    mask = Image.fromarray((disc ^ bool(n % 2)).astype(np.uint8)).convert("P")
    mask.putpalette([0, 0, 0, 255, 0, 0] if n % 2 == 0 else [255, 0, 0, 0, 0, 0])
    mask.save(root / "masks" / f"c{n}.png")


def twelve_bits(root: Path, n: int, image: np.ndarray, disc: np.ndarray) -> None:
    plain(root, n, image, disc)
    Image.fromarray(image.astype(np.uint16) * 16).save(root / "images" / f"c{n}.png")


def drive(root: Path, n: int, image: np.ndarray, disc: np.ndarray) -> None:
    Image.fromarray(image).save(root / "images" / f"{n}_training.tif")
    Image.fromarray((disc * 255).astype(np.uint8)).save(root / "masks" / f"{n}_manual1.gif")


READ: dict[str, tuple[Write, str]] = {
    "EXIF": (turned, "folder"),
    "left and right": (left_and_right, "folder"),
    "palettes": (palettes, "folder"),
    "12 bits": (twelve_bits, "folder:bits=12"),
    "range": (twelve_bits, "folder:range=0..4095"),
    "DRIVE": (drive, "folder"),
    "patterns": (drive, "folder:images=*_training.tif,masks={}_manual1.gif"),
}


@pytest.mark.parametrize("kind", READ)
def test_it_scores_what_it_should(kind: str, room: Path, segbench) -> None:
    write, spec = READ[kind]
    for n in range(6):
        write(room, n, *scene(n))
    rows = attacked(segbench, "net.py:build", spec, room)
    assert len(rows) == 6  # nobody has asked for a split
    assert rows["dice"].min() > 0.999


def attacked(segbench, model: str, spec: str, room: Path, *more: str) -> pd.DataFrame:
    done = segbench("attack", "-m", model, "-a", "fgsm", "--eps", "1/255", "--dataset", spec,
                    "--data-root", room, *more)  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = read_rows(Workspace(Path("runs")))
    return rows[rows["attack"] == "clean"]


def test_test_sets_are_test_sets(room: Path, segbench) -> None:
    for n in range(6):
        plain(room, n, *scene(n))
    (room / "split.csv").write_text("case_id,split\n" + "".join(f"c{n},test\n" for n in range(6)))
    assert len(attacked(segbench, "net.py:build", "folder:split=split.csv", room)) == 6
    Path("some.txt").write_text("c1\nc4.png\n")
    done = segbench("attack", "-m", "net.py:build", "-a", "fgsm", "--eps", "1/255", "--dataset",
                    "folder", "--cases", "some.txt", "--workspace", "other")  # fmt: skip
    assert done.exit_code == 0, done.output
    assert set(read_rows(Workspace(Path("other")))["case_id"]) == {"c1", "c4"}
    Path("some.txt").write_text("c1\nc9\n")
    done = segbench("attack", "-m", "net.py:build", "-a", "fgsm", "--eps", "1/255", "--dataset",
                    "folder", "--cases", "some.txt")  # fmt: skip
    assert done.exit_code == 2
    assert "some.txt names c9, not a case of the split all" in done.stderr
    done = segbench("attack", "-m", "net.py:build", "-a", "fgsm", "--eps", "1/255", "--dataset",
                    "folder:test_fraction=0.5", "--workspace", "asked")  # fmt: skip
    assert len(set(read_rows(Workspace(Path("asked")))["case_id"])) == 3


def test_what_was_found_is_said_once_with_how_many_files_hold_it(room: Path, segbench) -> None:
    for n in range(3):
        image, disc = scene(n)
        plain(room, n, image, disc & (n > 0))
    done = segbench("attack", "-m", "net.py:build", "-a", "fgsm", "--eps", "1/255", "--dataset",
                    "folder", "--data-root", room)  # fmt: skip
    said = "masks: of 3 files (how many hold it), 0 is background (3), 255 is foreground (2)"
    assert done.stderr.count(said) == 1


def test_a_network_no_better_than_a_constant_is_told_of_and_marked(room: Path, segbench) -> None:
    for n in range(3):
        plain(room, n, *scene(n))
    done = segbench("attack", "-m", "net.py:inverted", "-a", "fgsm", "--eps", "1/255", "--dataset",
                    "folder", "--data-root", room)  # fmt: skip
    assert done.exit_code == 0
    text = " ".join(done.output.split())
    assert "its clean score is no better than that of foreground everywhere" in text
    assert "is marked constant-answer: do not trust these numbers" in text
    (record,) = read_runs(Workspace(Path("runs")))
    assert record.asked[0].constant.startswith("foreground everywhere")


def test_images_far_below_their_range_are_told_of(room: Path, segbench) -> None:
    for n in range(3):
        image, disc = scene(n)
        plain(room, n, image, disc)
        Image.fromarray(image.astype(np.uint16)).save(room / "images" / f"c{n}.png")
    done = segbench("attack", "-m", "net.py:build", "-a", "fgsm", "--eps", "1/255", "--dataset",
                    "folder", "--data-root", room)  # fmt: skip
    assert "no image reaches an eighth of what its file can hold" in " ".join(done.stderr.split())


def test_outside_its_region_nothing_is_attacked_nor_scored(room: Path, segbench) -> None:
    """A disc on the edge of what counts: its outer half is as if it were not there."""
    (room / "fov").mkdir()
    inside = np.zeros((48, 40), bool)
    inside[:, :12] = True
    for n in range(2):
        image, disc = scene(n)
        plain(room, n, np.where(inside, image, 127).astype(np.uint8), disc)
        Image.fromarray(inside.astype(np.uint8) * 255).save(room / "fov" / f"c{n}.png")
    rows = attacked(segbench, "net.py:build", "folder:rois=fov", room, "--save-adversarial")
    assert rows["dice"].min() > 0.999  # the disc's other half would be missed
    from segbench.data import load_dataset
    from segbench.store.images import kept_cases, load_images

    data = load_dataset("folder:rois=fov", room)
    runs = Workspace(Path("runs"))
    cell = next(key for key in read_rows(runs)["cell"].unique() if kept_cases(runs, key))
    for name in ("c0", "c1"):
        case = data.load(name)
        kept = load_images(kept_cases(runs, cell)[case.sha256], [case.sha256]).images[0].numpy()
        assert (kept[0][~inside] == case.image[0][~inside]).all()
        assert (kept[0][inside] != case.image[0][inside]).any()


def test_regions_are_scored_and_attacked_as_structures_of_their_own(room: Path, segbench) -> None:
    """Channel s of the network is every pixel above its own edge: whole is above 0.3, core 0.6."""
    for n in range(2):
        _, disc = scene(n)
        levels = np.where(disc, 200, np.roll(disc, 9, 0) * 60 + 50).astype(np.uint8)
        Image.fromarray(levels).save(room / "images" / f"c{n}.png")
        mask = np.where(levels == 200, 2, np.where(levels == 110, 1, 0)).astype(np.uint8)
        Image.fromarray(mask).save(room / "masks" / f"c{n}.png")
    rows = attacked(segbench, "net.py:Two", 'folder:regions="whole={1,2}; core={2}"', room)
    assert rows["dice"].min() > 0.999
    assert set(rows["class_name"]) == {"whole", "core"}
    done = segbench("attack", "-m", "net.py:build", "-a", "fgsm", "--eps", "1/255", "--dataset",
                    'folder:regions="whole={1,2}; core={2}"')  # fmt: skip
    assert done.exit_code == 2
    done = segbench("train", "unet:width=4,depth=2", "--epochs", "1", "--dataset",
                    'folder:regions="whole={1,2}; core={2}"')  # fmt: skip
    assert done.exit_code == 2
    assert "not trained on here" in " ".join(done.stderr.split())
