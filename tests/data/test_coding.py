"""Mask values to classes: known codings are recognised, what can be two things is refused."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from segbench.data.coding import COLOUR, IGNORE_INDEX, Coding, count_values
from segbench.data.mask_coding import explained_coding, infer_coding, structure_coding
from segbench.data.survey import MaskValues, Survey, survey_masks
from segbench.data.values import read_values
from segbench.errors import UserError

MASK = Path("masks/m.png")
RED, GREEN = COLOUR + 0xFF0000, COLOUR + 0x00FF00


def survey(*masks: Mapping[int, int] | set[int]) -> Survey:
    counts = [dict.fromkeys(mask, 9) if isinstance(mask, set) else mask for mask in masks]
    files = [MaskValues(Path(f"masks/m{n}.png"), some) for n, some in enumerate(counts)]
    return survey_masks(files)


@pytest.mark.parametrize(
    ("values", "names", "targets"),
    [
        ({0, 255}, ("background", "foreground"), {0: 0, 255: 1}),
        ({0, 1}, ("background", "foreground"), {0: 0, 1: 1}),
        ({0, 1, 2, 3}, ("background", "class 1", "class 2", "class 3"), {0: 0, 1: 1, 2: 2, 3: 3}),
        ({0, 150, 200}, ("background", "value 150", "value 200"), {0: 0, 150: 1, 200: 2}),
        ({0, RED}, ("background", "colour #ff0000"), {0: 0, RED: 1}),
    ],
)
def test_values_are_coded_as_people_code_them(
    values: set[int], names: tuple[str, ...], targets: dict[int, int]
) -> None:
    coding = infer_coding(survey(values), (), ())
    assert (coding.names, dict(coding.values)) == (names, targets)


def test_given_names_fix_the_number_of_classes_even_if_one_never_occurs() -> None:
    coding = infer_coding(survey({0, 2}), ("background", "a", "b"), ())
    assert dict(coding.values) == {0: 0, 1: 1, 2: 2}
    with pytest.raises(UserError, match="names 3 classes, but the masks have 4"):
        infer_coding(survey({0, 1, 2, 3}), ("background", "a", "b"), ())


AMBIGUOUS = [
    ([{0, 1, 255}], None, r"0, 1, 255: 255 either marks .*\(ignore=255\).*values=0\+1&255"),
    ([{0, 1}, {0, 255}], None, r"1 is in masks/m0\.png \(9 pixels\); 255 is in masks/m1\.png"),
    ([{0, 1}, {-1, 0}], None, r"negative value -1 \(masks/m1\.png \(9 pixels\)\).*ignore=-1"),
    ([{0}], None, "only the value 0"),
    ([{255}], None, r"only the value 255; .*values=0\+255"),
    ([{1}], None, r"only the value 1; .*values=0\+1"),
    ([{0, 1}] * 9 + [{0: 5, 1: 9, 3: 1}], None, r"only masks/m9\.png \(1 pixel\) hold the value 3"),
    ([set(range(0, 42, 2))], None, "21 distinct values"),
    ([{1, 2, 3}], None, r"1, 2, 3 and no 0, .*values=1\+2\+3 where it is 1, values=0\+1\+2\+3"),
    ([{1}, {2}], None, r"1, 2 and no 0"),
    ([{128, 255}], None, r"values=128\+255 where it is 128"),
    ([{0, 1, 2}], 0, r"1, 2 and no 0"),
    ([{RED, GREEN}], None, "values=#00ff00.#ff0000 where it is #00ff00"),
]


@pytest.mark.parametrize(("masks", "ignore", "words"), AMBIGUOUS)
def test_what_can_be_two_things_is_refused_with_the_option_and_the_files(
    masks: list[set[int]], ignore: int | None, words: str
) -> None:
    with pytest.raises(UserError, match=words):
        infer_coding(survey(*masks), (), () if ignore is None else (ignore,))


def test_without_a_0_names_alone_do_not_say_which_value_is_the_background() -> None:
    cropped = survey({1, 2})
    with pytest.raises(UserError, match="1, 2 and no 0"):
        infer_coding(cropped, ("background", "lung"), ())
    for text, targets in (("1+2", {1: 0, 2: 1}), ("2+1", {1: 1, 2: 0}), ("0+1+2", {1: 1, 2: 2})):
        given = read_values(text, "", (), (), Path())
        assert given
        assert targets.items() <= dict(explained_coding(cropped, given).values).items()


def test_names_for_all_labels_leave_no_doubt_where_some_do_not_occur() -> None:
    """Crops in which there is no background, or but one class, of masks of 0 to 2."""
    for values in ({1, 2}, {1}, {2}):
        coding = infer_coding(survey(values), ("background", "a", "b"), ())
        assert dict(coding.values) == {0: 0, 1: 1, 2: 2}
    assert dict(infer_coding(survey({255}), ("background", "a"), ()).values) == {0: 0, 255: 1}


def test_the_options_that_a_refusal_names_settle_it() -> None:
    mixed = survey({0, 1}, {0, 255})
    ignored = infer_coding(mixed, (), (255,))
    assert (dict(ignored.values), ignored.ignore) == ({0: 0, 1: 1}, (255,))
    for text, targets in (("0+1&255", {0: 0, 1: 1, 255: 1}), ("0+1+255", {0: 0, 1: 1, 255: 2})):
        given = read_values(text, "", (), (), Path())
        assert given
        assert dict(explained_coding(mixed, given).values) == targets
    given = read_values("0+255", "", (), (), Path())
    assert given
    assert explained_coding(survey({255}), given).names == ("background", "foreground")
    with pytest.raises(UserError, match=r"do not say what 1 is: 1 is in masks/m0\.png"):
        explained_coding(mixed, given)


def palette(number: int, colours: Mapping[int, int]) -> MaskValues:
    return MaskValues(Path(f"masks/p{number}.png"), dict.fromkeys(colours, 4), colours)


def test_palettes_that_agree_keep_the_order_of_their_indices() -> None:
    one, two = palette(0, {0: 0, RED: 1}), palette(1, {0: 0, GREEN: 2, RED: 1})
    coding = infer_coding(survey_masks([one, two]), (), ())
    assert dict(coding.values) == {0: 0, RED: 1, GREEN: 2}  # not in the order of their colours
    assert coding.names == ("background", "class 1", "class 2")
    void = palette(2, {0: 0, COLOUR + 0xE0E0C0: 255})
    assert infer_coding(survey_masks([one, two, void]), (), (255,)).ignore == (COLOUR + 0xE0E0C0,)


@pytest.mark.parametrize(
    "other", [{0: 0, GREEN: 1}, {0: 0, RED: 2}, {0: 1, GREEN: 0}], ids=["index", "colour", "both"]
)
def test_palettes_that_differ_are_read_as_colours(other: Mapping[int, int]) -> None:
    coding = infer_coding(survey_masks([palette(0, {0: 0, RED: 1}), palette(1, other)]), (), ())
    assert all(name.startswith("colour #") for name in coding.names[1:])
    assert dict(coding.values) == {v: n for n, v in enumerate(sorted({0, RED, *other}))}
    assert any("palettes of the masks differ" in note for note in coding.notes)


def test_colours_by_a_palette_and_bare_numbers_are_not_mixed() -> None:
    with pytest.raises(UserError, match=r"p0\.png holds colours by a palette and masks/b\.png"):
        survey_masks([palette(0, {0: 0, RED: 1}), MaskValues(Path("masks/b.png"), {0: 3, 1: 3})])
    empty = MaskValues(Path("masks/b.png"), {0: 3})
    assert survey_masks([palette(0, {0: 0, RED: 1}), empty]).found == [0, 1]


TOML = 'ignore = [7]\ndrop = 9\n[classes]\nback = 0\nlung = [255, 254]\nheart = "#ff0000"\n'
CSV = "value,class\n0,back\n255,lung\n254,lung\n#ff0000,heart\n7,ignore\n9,drop\n"


@pytest.mark.parametrize(("name", "text"), [("v.toml", TOML), ("v.csv", CSV)])
def test_a_file_merges_drops_ignores_names_and_orders(name: str, text: str, tmp_path: Path) -> None:
    (tmp_path / name).write_text(text)
    given = read_values(name, "", (), (), tmp_path)
    assert given
    coding = explained_coding(survey({0, 254, 255, 7, 9, RED}), given)
    assert coding.names == ("back", "lung", "heart")
    assert dict(coding.values) == {0: 0, 255: 1, 254: 1, RED: 2, 9: 0}
    assert coding.ignore == (7,)


BAD_VALUES = [
    ("0", "", "gives 1 classes"),
    ("0+x", "", r"'x' of values=0\+x is not a mask value"),
    ("0+1+1", "", "gives 1 two meanings"),
    ("", "whole={1,2", "is not a list of regions"),
    ("", "whole={0,1}; core={1}", "the value 0, which is the background"),
    ("no.toml", "", r"values file .*no\.toml cannot be read"),
]


@pytest.mark.parametrize(("values", "regions", "words"), BAD_VALUES)
def test_a_map_that_is_none_is_refused(
    values: str, regions: str, words: str, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match=words):
        read_values(values, regions, (), (), tmp_path)


def test_regions_are_sets_of_labels_and_one_region_is_a_class() -> None:
    given = read_values("", "whole={1,2,4}; core={1,4}", (), (), Path())
    assert given
    coding = explained_coding(survey({0, 1, 2, 4}), given)
    label = dict(coding.values)
    assert coding.names == ("background", "whole", "core")
    assert [set(of) for of in coding.regions] == [
        {label[1], label[2], label[4]},
        {label[1], label[4]},
    ]
    one = read_values("", "whole={1,2}", (), (), Path())
    assert one
    assert (one.regions, dict(one.labels)) == ((), {0: 0, 1: 1, 2: 1})


def test_structures_of_files_of_their_own_are_classes_unless_they_overlap() -> None:
    apart = structure_coding(survey({0, 1}, {0, 2}), ("left", "right"), ())
    assert (apart.names, apart.regions) == (("background", "left", "right"), ())
    together = structure_coding(survey({0, 1, 2}), (), ())
    assert dict(together.values) == {0: 0, 1: 1, 2: 1}
    overlapping = structure_coding(survey({0, 1, 2, 3}), ("disc", "cup"), ())
    label = dict(overlapping.values)
    assert [set(of) for of in overlapping.regions] == [{label[1], label[3]}, {label[2], label[3]}]
    assert overlapping.names == ("background", "disc", "cup")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.int32, np.int64])
def test_encoding_maps_every_pixel_and_ignores_the_ignored(dtype: type) -> None:
    raw = np.random.default_rng(0).choice([0, 100, 250], (11, 13)).astype(dtype)
    coding = infer_coding(survey({0, 100, 250}), (), ignored=(250,))
    labels = coding.encode(raw, MASK)
    assert labels.dtype == np.int64
    assert (coding.ignore_index, len(coding.names)) == (IGNORE_INDEX, 2)
    np.testing.assert_array_equal(labels == IGNORE_INDEX, raw == 250)
    np.testing.assert_array_equal(labels == 1, raw == 100)
    assert count_values(raw) == {v: int((raw == v).sum()) for v in (0, 100, 250)}


def test_a_value_that_the_coding_lacks_is_named_with_the_file() -> None:
    coding = Coding(("background", "lesion"), ((0, 0), (255, 1)))
    with pytest.raises(UserError, match=r"masks/m\.png holds the value 7, 9, expected only 0, 255"):
        coding.encode(np.array([[0, 7], [9, 255]], dtype=np.uint8), MASK)
