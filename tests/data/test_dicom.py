"""DICOM: series as they lie in the patient, labels of three kinds, what is refused by name."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from dicom_files import (
    AXIAL,
    RANDOM,
    SAGITTAL,
    SHAPE,
    UID,
    by_world,
    dataset,
    pixels,
    scene,
    segmentation,
    series,
)

from segbench.data import load_dataset
from segbench.errors import UserError
from segbench.export.image_files import read_change, write_image

pydicom = pytest.importorskip("pydicom")
nibabel = pytest.importorskip("nibabel")


@pytest.mark.parametrize("axes", [AXIAL, SAGITTAL], ids=["axial", "sagittal"])
def test_every_voxel_and_label_is_where_it_is_in_the_patient(axes: Any, tmp_path: Path) -> None:
    units, mask = scene(tmp_path, axes)
    data = load_dataset("dicom:window=-1000..1000", tmp_path)
    assert data.class_names == ("background", "liver")
    case = data.load("p0")
    place = by_world(case, axes)
    for k, r, c in np.ndindex(*SHAPE):
        at = place(k, r, c)
        assert case.image[(0, *at)] == pytest.approx(np.clip((units[k, r, c] + 1000) / 2000, 0, 1))
        assert case.labels[at] == mask[k, r, c]
    assert case.group_id == "p0"
    assert sorted(case.spacing or ()) == [0.5, 0.75, 2.5]
    assert [channel.bits for channel in case.intensity or ()] == [12]


def test_ct_needs_a_window_and_mr_does_not(tmp_path: Path) -> None:
    scene(tmp_path / "ct")
    with pytest.raises(UserError, match=r"CT needs the Hounsfield units .*window="):
        load_dataset("dicom", tmp_path / "ct")
    for n in range(2):
        sources = series(
            tmp_path / "mr" / f"s{n}",
            RANDOM.integers(0, 900, SHAPE),
            modality="MR",
            patient=f"p{n}",
        )
        segmentation(tmp_path / "mr" / f"seg{n}.dcm", sources, {"x": RANDOM.random(SHAPE) > 0.5})
    assert load_dataset("dicom", tmp_path / "mr").load("p1").image.max() == 1


@pytest.mark.parametrize("kind", ["BINARY", "FRACTIONAL", "LABELMAP"])
def test_every_type_of_segmentation_is_read(kind: str, tmp_path: Path) -> None:
    """A label map lists its background as a segment, and that is no structure."""
    right = RANDOM.integers(0, 3, SHAPE)
    for n in range(2):
        sources = series(tmp_path / f"s{n}", RANDOM.integers(0, 9, SHAPE), patient=f"p{n}")
        masks = {"kidney": right == 1, "tumour": right == 2}
        segmentation(tmp_path / f"seg{n}.dcm", sources, masks, kind)
    data = load_dataset("dicom:window=0..9", tmp_path)
    assert data.class_names == ("background", "kidney", "tumour")
    case = data.load("p0")
    place = by_world(case, AXIAL)
    assert all(case.labels[place(*at)] == right[at] for at in np.ndindex(*SHAPE))


def test_segments_are_classes_or_where_they_overlap_regions(tmp_path: Path) -> None:
    for name, overlap in (("apart", False), ("over", True)):
        for n in range(2):
            whole = RANDOM.random(SHAPE) > 0.4
            part = whole & (RANDOM.random(SHAPE) > 0.5)
            sources = series(
                tmp_path / name / f"s{n}", RANDOM.integers(0, 9, SHAPE), patient=f"p{n}"
            )
            masks = {"kidney": whole if overlap else whole & ~part, "tumour": part}
            segmentation(tmp_path / name / f"seg{n}.dcm", sources, masks)
        data = load_dataset("dicom:window=0..9", tmp_path / name)
        assert data.class_names == ("background", "kidney", "tumour")
        assert bool(data.load("p0").regions) is overlap


def test_contours_are_the_pixels_whose_centres_they_hold(tmp_path: Path) -> None:
    for n in range(2):
        sources = series(tmp_path / f"s{n}", RANDOM.integers(0, 9, SHAPE), patient=f"p{n}")
        one = dataset("RTSTRUCT", f"p{n}", UID(), sources[0].StudyInstanceUID)
        reference = pydicom.Dataset()
        reference.SeriesInstanceUID = sources[0].SeriesInstanceUID
        study, frame = pydicom.Dataset(), pydicom.Dataset()
        study.RTReferencedSeriesSequence = [reference]
        frame.RTReferencedStudySequence = [study]
        one.ReferencedFrameOfReferenceSequence = [frame]
        roi, contours, contour = pydicom.Dataset(), pydicom.Dataset(), pydicom.Dataset()
        roi.ROINumber, roi.ROIName = 4, "lung"
        one.StructureSetROISequence = [roi]
        corner = np.array(sources[2].ImagePositionPatient, float)
        square = [(0.9, 1.9), (0.9, 4.1), (3.1, 4.1), (3.1, 1.9)]  # (column, row)
        points = [corner + np.array([0.75 * c, 0.5 * r, 0]) for c, r in square]
        contour.ContourGeometricType = "CLOSED_PLANAR"
        contour.ContourData = np.ravel(points).tolist()
        contours.ReferencedROINumber, contours.ContourSequence = 4, [contour]
        one.ROIContourSequence = [contours]
        one.save_as(tmp_path / f"rt{n}.dcm", enforce_file_format=True)
    case = load_dataset("dicom:window=0..9", tmp_path).load("p0")
    place = by_world(case, AXIAL)
    inside = {place(2, r, c) for r in (2, 3, 4) for c in (1, 2, 3)}
    assert set(map(tuple, np.argwhere(case.labels == 1).tolist())) == inside


def test_mask_files_beside_must_lie_where_the_series_lies(tmp_path: Path) -> None:
    scene(tmp_path)
    data = load_dataset("dicom:window=0..9", tmp_path)
    affine = data.load("p0").affine
    for path in tmp_path.glob("seg*"):
        path.unlink()
    (tmp_path / "labels").mkdir()
    values = RANDOM.integers(0, 3, (SHAPE[2], SHAPE[1], SHAPE[0])).astype(np.uint8)
    for n in range(2):
        nibabel.save(nibabel.Nifti1Image(values, affine), tmp_path / "labels" / f"p{n}.nii.gz")
    data = load_dataset("dicom:window=0..9", tmp_path)
    assert len(data.class_names) == 3
    moved = affine + np.eye(4)[:, [3, 3, 3, 3]] * 0
    moved[0, 3] += 9
    nibabel.save(nibabel.Nifti1Image(values, moved), tmp_path / "labels" / "p0.nii.gz")
    with pytest.raises(UserError, match=r"labels/p0\.nii\.gz does not lie where its series in s0/"):
        load_dataset("dicom:window=0..9", tmp_path)


@pytest.mark.parametrize("syntax", ["RLELossless", "JPEGLSLossless"])
def test_compressed_pixels_are_those_they_were(syntax: str, tmp_path: Path) -> None:
    values = RANDOM.integers(0, 3000, SHAPE)
    for n in range(2):
        sources = series(tmp_path / f"s{n}", values, patient=f"p{n}")
        segmentation(tmp_path / f"seg{n}.dcm", sources, {"liver": values > 1500})
    plain = load_dataset("dicom:window=-1000..1000", tmp_path).load("p0")
    for path in sorted((tmp_path / "s0").iterdir()):
        one = pydicom.dcmread(path)
        one.compress(getattr(pydicom.uid, syntax), generate_instance_uid=False)
        one.save_as(path)
    packed = load_dataset("dicom:window=-1000..1000", tmp_path).load("p0")
    np.testing.assert_array_equal(packed.image, plain.image)
    np.testing.assert_array_equal(packed.labels, plain.labels)


def test_pixels_that_cannot_be_decoded_are_one_sentence(tmp_path: Path) -> None:
    scene(tmp_path)
    path = sorted((tmp_path / "s0").iterdir())[1]
    one = pydicom.dcmread(path)
    one.PixelData = one.PixelData[:-20]
    one.save_as(path)
    with pytest.raises(UserError, match=rf"{path.name} has pixels that cannot be read"):
        load_dataset("dicom:window=0..9", tmp_path).load("p0")


def test_a_series_that_memory_cannot_hold_is_refused_from_its_headers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segbench.data import dicom_series

    scene(tmp_path)
    monkeypatch.setattr(dicom_series, "free_bytes", lambda: 16 * 5 * 8 * 6 - 1)
    with pytest.raises(UserError, match="is one of 5 slices of 3,840 bytes once they are read"):
        load_dataset("dicom:window=0..9", tmp_path)


def drop(one: Any, n: int) -> None:
    if n == 2:
        one.ImagePositionPatient = [3, -4, 5 + 2.5 * 1]


def hole(one: Any, n: int) -> None:
    if n > 2:
        one.ImagePositionPatient = [3, -4, 5 + 2.5 * (n + 1)]


def tilt(one: Any, n: int) -> None:
    one.ImagePositionPatient = [3, -4 + 0.4 * n, 5 + 2.5 * n]


def mixed(one: Any, n: int) -> None:
    if n == 0:
        one.ImageOrientationPatient = [0, 1, 0, 1, 0, 0]


def colour(one: Any, n: int) -> None:
    one.PhotometricInterpretation = "RGB"


def unplaced(one: Any, n: int) -> None:
    del one.ImagePositionPatient


def of_one(tag: str, value: Any = None) -> Callable[[Any, int], None]:
    """One slice of five says something else; without a value, nothing."""

    def change(one: Any, n: int) -> None:
        if n == 1 and value is None:
            delattr(one, tag)
        elif n == 1:
            setattr(one, tag, value)

    return change


REFUSED = {
    "no rows": (of_one("Rows"), "has no Rows"),
    "no bits": (of_one("BitsStored", 0), "has the BitsStored 0; expected 1 or more"),
    "no slope": (of_one("RescaleSlope", 0), "has the RescaleSlope 0, by which all"),
    "a slope missing": (of_one("RescaleSlope"), "has no RescaleSlope, and .* has one"),
    "other bits": (of_one("BitsStored", 13), "another BitsStored than"),
    "other signs": (of_one("PixelRepresentation", 1), "another PixelRepresentation than"),
    "half a place": (of_one("ImagePositionPatient", [3, -4]), "expected 3 numbers"),
    "no spacing": (of_one("PixelSpacing", [0, 1]), "has the PixelSpacing .*; expected millimetres"),
    "one axis": (of_one("ImageOrientationPatient", [1, 0, 0, 1, 0, 0]), "not at right angles"),
    "no modality": (of_one("Modality", ""), "has no Modality, without which"),
    "two slices at one place": (drop, "are at one place"),
    "slices missing": (hole, "there are slices missing between"),
    "tilted gantry": (tilt, "tilted gantry"),
    "mixed orientations": (mixed, "another ImageOrientationPatient than"),
    "colour": (colour, "is RGB; expected gray"),
    "no place": (unplaced, "has no ImagePositionPatient"),
}


@pytest.mark.parametrize("kind", REFUSED)
def test_what_would_bend_a_volume_is_refused_by_name(kind: str, tmp_path: Path) -> None:
    change, words = REFUSED[kind]
    series(tmp_path / "s0", RANDOM.integers(0, 9, SHAPE), change=change)
    with pytest.raises(UserError, match=words):
        load_dataset("dicom:window=0..9", tmp_path)


def test_a_tree_says_what_it_has_not_used(tmp_path: Path) -> None:
    scene(tmp_path)
    series(tmp_path / "more", RANDOM.integers(0, 9, SHAPE), patient="p7")
    (tmp_path / "viewer.exe").write_bytes(b"MZ")
    notes = load_dataset("dicom:window=0..9", tmp_path).notes
    assert "1 series have no labels and are left out" in notes
    assert any(note.startswith("1 files under") for note in notes)


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
def test_radiographs_are_pictures_bright_where_they_are_seen_bright(
    photometric: str, tmp_path: Path
) -> None:
    from PIL import Image

    (tmp_path / "labels").mkdir()
    for n in range(2):
        values = RANDOM.integers(0, 4096, (9, 7))
        one = pixels(dataset("DX", f"p{n}", UID(), UID()), values)
        one.PhotometricInterpretation = photometric
        one.ImagerPixelSpacing = [0.2, 0.3]
        one.save_as(tmp_path / f"x{n}.dcm", enforce_file_format=True)
        mask = (values > 2000).astype(np.uint8) * 255
        Image.fromarray(mask).save(tmp_path / "labels" / f"x{n}.png")
    case = load_dataset("dicom", tmp_path).load("x1")
    right = values / 4095 if photometric == "MONOCHROME2" else 1 - values / 4095
    np.testing.assert_allclose(case.image[0], right, atol=1e-6)
    np.testing.assert_array_equal(case.labels, values > 2000)
    assert case.spacing == (0.2, 0.3)
    assert case.group_id == "p1"


@pytest.mark.parametrize("other", [(), None, [0, 0]], ids=["absent", "empty", "zero"])
@pytest.mark.parametrize("sized", [0, 1, 3])
def test_distances_of_a_data_set_are_of_one_unit(sized: int, other: Any, tmp_path: Path) -> None:
    """A mean of millimetres and pixels is no number."""
    from PIL import Image

    (tmp_path / "labels").mkdir()
    for n in range(3):
        one = pixels(dataset("DX", f"p{n}", UID(), UID()), RANDOM.integers(0, 4096, (9, 7)))
        if n < sized:
            one.ImagerPixelSpacing = [0.2, 0.3]
        if other != ():
            one.PixelSpacing = other
        one.save_as(tmp_path / f"x{n}.dcm", enforce_file_format=True)
        mask = np.arange(63).reshape(9, 7) % 2
        Image.fromarray(mask.astype(np.uint8)).save(tmp_path / "labels" / f"x{n}.png")
    data = load_dataset("dicom", tmp_path)
    spacings = {data.load(f"x{n}").spacing for n in range(3)}
    assert spacings == {(0.2, 0.3) if sized == 3 else None}
    said = [note for note in data.notes if "pixels are" in note]
    assert len(said) == (sized == 1)
    assert all(note.startswith("2 of 3 images do not say") for note in said)


@pytest.mark.parametrize("mode", ["volumes", "slices"])
def test_a_changed_case_is_written_as_a_derived_series_and_reads_back(
    mode: str, tmp_path: Path
) -> None:
    scene(tmp_path / "in")
    data = load_dataset(f"dicom:window=-1000..1000,mode={mode}", tmp_path / "in")
    case = data.load("p0" if mode == "volumes" else "p0_z002")
    eps = 8 / 255
    noise = RANDOM.uniform(-eps, eps, case.image.shape)
    image = np.clip(case.image + noise, 0, 1).astype(np.float32)
    path = write_image(tmp_path / "out", image, case)
    files = sorted(path.glob("*.dcm"))
    assert len(files) == (SHAPE[0] if mode == "volumes" else 1)
    change = read_change(path, case)
    assert change.shape == case.image.shape
    assert np.abs(change).max() <= eps
    assert np.abs(change - (image - case.image)).max() <= 1 / 2000 + 1e-6  # one Hounsfield unit
    written = pydicom.dcmread(files[0])
    assert written.ImageType[0] == "DERIVED"
    assert written.PatientID == "p0"
    uids = {str(pydicom.dcmread(file).SeriesInstanceUID) for file in files}
    source = pydicom.dcmread(case.source)
    assert len(uids) == 1
    assert str(source.SeriesInstanceUID) not in uids


@pytest.mark.parametrize("mode", ["volumes", "slices"])
def test_of_a_moved_case_the_series_is_what_the_image_shows(mode: str, tmp_path: Path) -> None:
    """In a window that clips nearly all; what has not moved keeps the file's numbers."""
    scene(tmp_path / "in")
    data = load_dataset(f"dicom:window=-40..40,mode={mode}", tmp_path / "in")
    case = data.load("p0" if mode == "volumes" else "p0_z002")
    image = case.image.copy()
    image[:, :2] = np.roll(image, 1, 2)[:, :2]
    path = write_image(tmp_path / "out", image, case, replaced=True)
    change = read_change(path, case, replaced=True)
    level = 1 / 80 + 1e-6  # one Hounsfield unit
    assert np.abs(change - (image - case.image)).max() <= level
    files = read_change(path, case)
    assert not files[image == case.image].any()
    added = read_change(write_image(tmp_path / "added", image, case), case, replaced=True)
    assert np.abs(added - (image - case.image)).max() > 0.2


@pytest.mark.parametrize("share", [0.5, 0.94, 0.99])
@pytest.mark.parametrize("level", [3, 300, 600, 1900])
def test_large_changes_too_are_rounded_towards_the_clean_numbers(
    level: int, share: float, tmp_path: Path
) -> None:
    """A change of ``level`` numbers and a share of one is ``level`` of them, up and down."""
    scene(tmp_path / "in")
    case = load_dataset("dicom:window=-2000..2000", tmp_path / "in").load("p0")
    change = (level + share) / 4000
    up = case.image < 0.5
    image = (case.image + np.where(up, change, -change)).astype(np.float32)
    path = write_image(tmp_path / "out", image, case)
    moved = 4000 * read_change(path, case)
    inside = (image >= 0) & (image <= 1) & (np.abs(moved) > 0)
    assert inside.any()
    assert np.abs(moved).max() <= level + 1e-6
    whole = write_image(tmp_path / "whole", case.image + np.float32(level / 4000), case)
    np.testing.assert_allclose(np.rint(4000 * read_change(whole, case)).max(), level)


def test_structures_in_files_of_their_own_are_put_together(tmp_path: Path) -> None:
    values, masks = RANDOM.integers(0, 9, SHAPE), RANDOM.random((2, *SHAPE)) > 0.5
    for n in range(2):
        sources = series(tmp_path / f"s{n}", values, patient=f"p{n}")
        for name, mask in zip(("left", "right"), masks & ~masks[::-1], strict=True):
            segmentation(tmp_path / f"{name}{n}.dcm", sources, {name: mask})
    data = load_dataset("dicom:window=0..9", tmp_path)
    assert data.class_names == ("background", "left", "right")
    case, place = data.load("p0"), by_world(data.load("p0"), AXIAL)
    right = np.where(masks[0] == masks[1], 0, np.where(masks[0], 1, 2))
    for at in np.ndindex(*SHAPE):
        assert case.labels[place(*at)] == right[at]
    segmentation(tmp_path / "again0.dcm", sources, {"left": masks[0]})
    with pytest.raises(UserError, match=r"left1\.dcm outlines 'left' in a series where again0"):
        load_dataset("dicom:window=0..9", tmp_path)


def codestream(one: Any) -> Any:
    """The same file, its pixels as JPEG 2000 without loss."""
    from PIL import Image

    packed = BytesIO()
    picture = Image.fromarray(one.pixel_array.astype(np.uint16))
    picture.save(packed, "JPEG2000", no_jp2=True, irreversible=False)
    one.PixelData = pydicom.encaps.encapsulate([packed.getvalue()])
    one.file_meta.TransferSyntaxUID = pydicom.uid.JPEG2000Lossless
    return one


def test_jpeg_2000_is_read_to_the_bit(tmp_path: Path) -> None:
    values = RANDOM.integers(0, 4096, (5, 40, 40))
    for n in range(2):
        sources = series(tmp_path / f"s{n}", values, patient=f"p{n}")
        segmentation(tmp_path / f"seg{n}.dcm", sources, {"liver": values > 1500})
    plain = load_dataset("dicom:window=-1000..3095", tmp_path).load("p0")
    for path in sorted((tmp_path / "s0").iterdir()):
        codestream(pydicom.dcmread(path)).save_as(path)
    packed = load_dataset("dicom:window=-1000..3095", tmp_path).load("p0")
    np.testing.assert_array_equal(packed.image, plain.image)


def test_a_compression_that_nothing_here_reads_is_refused_with_what_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scene(tmp_path)
    path = sorted((tmp_path / "s0").iterdir())[0]
    one = pydicom.dcmread(path)
    for syntax, remedy in (
        (pydicom.uid.JPEGLosslessSV1, "pip install python-gdcm"),
        (pydicom.uid.JPEG2000Lossless, r"pip install 'segbench\[dicom\]'"),
        (pydicom.uid.MPEG2MPML, "decompress it"),
    ):
        one.PixelData = pydicom.encaps.encapsulate([b"\xff\xd8 no picture"])
        one.file_meta.TransferSyntaxUID = syntax
        one.save_as(path)
        with monkeypatch.context() as patch:
            decoder = pydicom.pixels.decoders.base.Decoder
            patch.setattr(decoder, "is_available", property(lambda _: False))
            words = rf"{path.name} is compressed as .*, which nothing here reads; {remedy}"
            with pytest.raises(UserError, match=words):
                load_dataset("dicom:window=0..9", tmp_path).load("p0")


@pytest.mark.parametrize("count", [16, 17, 33])
def test_no_structure_of_many_is_lost(count: int, tmp_path: Path) -> None:
    """The seventeenth used to be background, for want of a seventeenth bit."""
    values = np.arange(np.prod(SHAPE)).reshape(SHAPE) % (count + 1)
    for n in range(2):
        sources = series(tmp_path / f"s{n}", values, patient=f"p{n}")
        masks = {f"organ {number}": values == number for number in range(1, count + 1)}
        segmentation(tmp_path / f"seg{n}.dcm", sources, masks)
    data = load_dataset("dicom:window=0..9", tmp_path)
    case = data.load("p0")
    assert len(data.class_names) == count + 1
    place = by_world(case, AXIAL)
    assert all(case.labels[place(*at)] == values[at] for at in np.ndindex(*SHAPE))
    assert f"organ {count} (2)" in data.notes[0]


def test_more_structures_than_there_are_bits_are_refused(tmp_path: Path) -> None:
    for n in range(2):
        values = RANDOM.integers(0, 64, SHAPE)
        sources = series(tmp_path / f"s{n}", values, patient=f"p{n}")
        masks = {f"organ {number}": values == number for number in range(1, 64)}
        segmentation(tmp_path / f"seg{n}.dcm", sources, masks)
    with pytest.raises(UserError, match=r"seg0\.dcm is one of 63 structures; at most 62 are read"):
        load_dataset("dicom:window=0..9", tmp_path)


def renamed(folder: Path) -> None:
    for path in folder.glob("s*/*"):
        one = pydicom.dcmread(path)
        one.SOPInstanceUID = one.file_meta.MediaStorageSOPInstanceUID = UID()
        one.save_as(path)


def moved(folder: Path) -> None:
    for path in folder.glob("s*/*"):
        one = pydicom.dcmread(path)
        one.ImagePositionPatient = [3.5, -4, one.ImagePositionPatient[2]]
        one.save_as(path)


def flipped(folder: Path) -> None:
    for path in folder.glob("seg*"):
        one = pydicom.dcmread(path)
        for item in one.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence:
            item.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]
        one.save_as(path)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (renamed, "refers to a picture that its series lacks"),
        (moved, "has another ImagePositionPatient than"),
        (flipped, "has another ImageOrientationPatient than"),
    ],
)
def test_a_segmentation_of_other_pictures_is_no_empty_label(
    change: Callable[[Path], None], words: str, tmp_path: Path
) -> None:
    scene(tmp_path)
    change(tmp_path)
    with pytest.raises(UserError, match=rf"seg0\.dcm frame 1 {words}"):
        load_dataset("dicom:window=0..9", tmp_path)


def empty(one: Any) -> None:
    one.SegmentSequence = []


def unrelated(one: Any) -> None:
    del one.ReferencedSeriesSequence


def lower(one: Any) -> None:
    one.Rows = 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (empty, "outlines nothing"),
        (unrelated, "does not say what series it is about"),
        (lower, "is 6 x 1 pixels, its series not"),
    ],
)
def test_a_segmentation_that_says_too_little_is_refused(
    change: Callable[[Any], None], words: str, tmp_path: Path
) -> None:
    scene(tmp_path)
    one = pydicom.dcmread(tmp_path / "seg0.dcm")
    change(one)
    one.save_as(tmp_path / "seg0.dcm")
    with pytest.raises(UserError, match=rf"seg0\.dcm {words}"):
        load_dataset("dicom:window=0..9", tmp_path)


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.3, 0.6, 0.9])
def test_a_cut_segmentation_is_named_and_its_series_not_just_left_out(
    share: float, tmp_path: Path
) -> None:
    scene(tmp_path)
    path = tmp_path / "seg0.dcm"
    whole = path.read_bytes()
    path.write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(UserError, match=r"seg0\.dcm"):
        load_dataset("dicom:window=0..9", tmp_path)


def test_what_unpacks_to_more_than_memory_holds_is_refused_before_it_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from segbench.data import dicom_frames

    scene(tmp_path)
    path = sorted((tmp_path / "s0").iterdir())[0]
    whole = load_dataset("dicom:window=0..9", tmp_path).load("p0").image
    one = pydicom.dcmread(path)
    one.file_meta.TransferSyntaxUID = pydicom.uid.DeflatedExplicitVRLittleEndian
    one.save_as(path)
    again = load_dataset("dicom:window=0..9", tmp_path).load("p0").image
    np.testing.assert_array_equal(again, whole)
    one.add_new(0x00091001, "OB", b"\0" * (1 << 25))
    one.save_as(path)
    assert path.stat().st_size < 1 << 16
    monkeypatch.setattr(dicom_frames, "free_bytes", lambda: 1 << 22)
    with pytest.raises(UserError, match=rf"{path.name} is deflated and unpacks to 2,\d+,\d+ bytes"):
        load_dataset("dicom:window=0..9", tmp_path)
