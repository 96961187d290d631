"""What a network makes of DICOM cases comes out as SEG, and does not come in as a label."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from dicom_files import RANDOM, enhanced, segmentation, series

from segbench.data import load_dataset
from segbench.store.images import kept_cases, kept_cells, load_images
from segbench.store.workspace import Workspace

pydicom = pytest.importorskip("pydicom")
highdicom = pytest.importorskip("highdicom")

SHAPE = (5, 16, 12)
NET = """
import torch

class Bright(torch.nn.Module):
    OUTPUT

    def forward(self, images):
        bright, dark = 20 * images - 10, 10 - 20 * images
        return torch.cat(CHANNELS, 1)

def build():
    return Bright()
"""
KINDS = {
    "classes": ("", "[bright, dark]", ("dark",)),
    "structures": ('output = "sigmoid"', "[dark, bright + 4]", ("dark", "most")),
}


def scene(root: Path, kind: str, *, frames: bool) -> None:
    for n in range(2):
        values = RANDOM.integers(0, 1000, SHAPE)
        if frames:
            sources = [enhanced(root / f"e{n}.dcm", values, patient=f"p{n}")]
            masks = sources[0].pixel_array < 500, sources[0].pixel_array > 300
        else:
            sources = series(root / f"s{n}", values, patient=f"p{n}")
            masks = values < 500, values > 300
        found = dict(zip(KINDS[kind][2], masks, strict=False))
        segmentation(root / f"seg{n}.dcm", sources, found)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("frames", [False, True], ids=["files", "frames"])
@pytest.mark.parametrize("mode", ["volumes", "slices"])
def test_predictions_are_written_as_segmentations_of_both_series(
    segbench, tmp_path: Path, kind: str, frames: bool, mode: str
) -> None:
    output, channels, names = KINDS[kind]
    scene(tmp_path / "data", kind, frames=frames)
    net = tmp_path / "net.py"
    net.write_text(NET.replace("OUTPUT", output or "pass").replace("CHANNELS", channels))
    spec, runs = f"dicom:mode={mode},window=-950..-50", tmp_path / "runs"
    done = segbench("attack", "-m", f"{net}:build", "-a", "fgsm", "--eps", "40/255", "--dataset",
                    spec, "--data-root", tmp_path / "data", "--limit", "1", "--save-adversarial",
                    "--workspace", runs)  # fmt: skip
    assert done.exit_code == 0, done.output
    done = segbench("export", "--out", tmp_path / "out", "--workspace", runs)
    assert done.exit_code == 0, done.output

    outside = int(pd.read_csv(tmp_path / "out" / "written.csv")["outside"].iloc[0])
    assert outside > 0
    assert f"{outside} values lie outside the intensity windows" in done.stderr
    (cell,) = kept_cells(Workspace(runs))
    ((content, file),) = kept_cases(Workspace(runs), cell.key).items()
    kept = load_images(file, [content])
    case = load_dataset(spec, tmp_path / "data").load(kept.case_ids[0])
    assert (kept.labels != kept.clean_labels).any()
    clipped = np.count_nonzero((case.image == 0) | (case.image == 1))
    assert 0 < outside <= clipped  # a value may lie at an end of the window
    if mode == "volumes":
        sources = [case.source] if frames else sorted(case.source.parent.iterdir())
        stored = np.concatenate([pydicom.dcmread(path).pixel_array.ravel() for path in sources])
        assert outside == np.count_nonzero((stored < 50) | (stored > 950))  # -1000 is their 0
    source = pydicom.dcmread(case.source)
    both = (("clean", kept.clean_labels), ("adversarial-unrounded", kept.labels))
    for which, labels in both:
        (path,) = (tmp_path / "out").rglob(f"prediction-{which}.dcm")
        found = highdicom.seg.segread(path)
        assert tuple(one.SegmentLabel for one in found.SegmentSequence) == names
        assert found.segmentation_type.value == "BINARY"
        about = str(found.ReferencedSeriesSequence[0].SeriesInstanceUID)
        own = {str(pydicom.dcmread(p).SeriesInstanceUID) for p in path.parent.glob("*.dcm")
               if not p.name.startswith("prediction")}  # fmt: skip
        assert own == {about} if which != "clean" else about == source.SeriesInstanceUID
        right = labels[0].numpy()
        planes = right if kind == "structures" else [right == 1]
        assert ("before rounding" in found.SeriesDescription) == (which != "clean")
        assert found.pixel_array.sum() == sum(map(np.count_nonzero, planes))


@pytest.mark.parametrize("frames", [False, True], ids=["files", "frames"])
def test_a_prediction_lies_on_the_voxels_that_it_is_about_and_is_no_label(
    segbench, tmp_path: Path, frames: bool
) -> None:
    """Read as if it were a label, it gives back what the network said, voxel by voxel."""
    test_predictions_are_written_as_segmentations_of_both_series(
        segbench, tmp_path, "classes", frames=frames, mode="volumes"
    )
    data = tmp_path / "data"
    (path,) = (tmp_path / "out").rglob("prediction-clean.dcm")
    (cell,) = kept_cells(Workspace(tmp_path / "runs"))
    ((content, file),) = kept_cases(Workspace(tmp_path / "runs"), cell.key).items()
    kept = load_images(file, [content])
    spec = "dicom:window=-950..-50"
    written = pydicom.dcmread(path)
    written.save_as(data / "prediction.dcm")
    notes = load_dataset(spec, data).notes
    assert "1 segmentations are predictions, and no labels" in notes
    (data / "prediction.dcm").unlink()
    written.ManufacturerModelName = "somebody else"
    for seg in data.glob("seg*.dcm"):
        if pydicom.dcmread(seg).PatientID == written.PatientID:
            seg.unlink()
    written.save_as(data / "prediction.dcm")
    labels = load_dataset(spec, data).load(kept.case_ids[0]).labels
    np.testing.assert_array_equal(labels, kept.clean_labels[0].numpy())
