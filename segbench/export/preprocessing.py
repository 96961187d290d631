"""What MONAI's transforms make of a data set's files, and whether a network was shown the same.

Only what they express exactly is written: a range that is the same for every case and channel, or
percentiles of all voxels. Every case is compared, so nothing else passes for it.
"""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from segbench.errors import UserError
from segbench.export.contents import image_files

if TYPE_CHECKING:
    from segbench.api import Case, Dataset
    from segbench.data.window import Window

Steps = list[dict[str, Any]]
_LOADING = 3  # transforms that read a file and turn its axes
_CLOSE = 1e-4  # of [0, 1]: fp32 on either side
_KEY = {"keys": "image"}
INSTEAD = "leave --format out for safetensors and a card"
_FOREGROUND = (
    " (of a volume more than half of whose voxels hold the least value, segbench takes percentiles "
    "of the others)"
)


def write_steps(dataset: Dataset, mean: Sequence[float], std: Sequence[float], pad: int) -> Steps:
    """MONAI's transforms from a file to what the network takes, padding the last of them.

    Args:
        dataset: whose cases the network was shown.
        mean: of each channel, in [0, 1], which the network subtracts.
        std: of each channel, by which it divides.
        pad: the multiple that sides are padded to.

    Raises:
        UserError: MONAI's transforms make something else of a case; it is named.
    """
    steps: Steps = [
        {"_target_": "LoadImaged", **_KEY},
        {"_target_": "EnsureChannelFirstd", **_KEY},
        {"_target_": "Orientationd", **_KEY, "axcodes": "RAS"}
        if dataset.spatial_dims == 3
        else {"_target_": "Transposed", **_KEY, "indices": [0, 2, 1]},  # by column first
        *_to_unit(dataset),
        {"_target_": "NormalizeIntensityd", **_KEY, "subtrahend": [*mean], "divisor": [*std],
         "channel_wise": True},
    ]  # fmt: skip
    _compare(dataset, steps, np.array(mean), np.array(std))
    return [
        *steps,
        {"_target_": "DivisiblePadd", **_KEY, "k": pad, "mode": "edge", "method": "end"},
    ]


def transformed(steps: Sequence[Mapping[str, Any]], dataset: Dataset, case: Case) -> Any:
    """What MONAI's transforms make (C, *spatial) of a case's files; of pixels where it has none."""
    from monai.bundle import ConfigParser

    files = image_files(dataset, case)
    given: Any = [str(path) for path in files] if len(files) > 1 else str(*files)
    if not files:
        steps, given = steps[_LOADING:], _in_units(case)
    content = {"all": {"_target_": "Compose", "transforms": [dict(step) for step in steps]}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # MONAI's, of its own defaults
        try:
            return ConfigParser(content).get_parsed_content("all")({"image": given})["image"]
        except Exception as error:  # its readers fail in any way
            reason = str(error.__cause__ or error).strip().partition("\n")[0]
            raise UserError(
                f"MONAI's transforms cannot read case {case.case_id}: {reason}; {INSTEAD}"
            ) from error


def first_case(dataset: Dataset) -> Case:
    """The first."""
    return next(_cases(dataset))


def _to_unit(dataset: Dataset) -> Steps:
    """From a file's values to [0, 1], as the first case goes."""
    case = first_case(dataset)
    if case.depth is not None:
        raise UserError(
            "a MONAI bundle of this network cannot say what it is shown: slices, scaled as their "
            f"volume is, which MONAI's transforms do not read from a file; {INSTEAD}"
        )
    if case.intensity is None:
        return []
    ends = {"b_min": 0.0, "b_max": 1.0, "clip": True}
    window: Window | None = getattr(dataset, "clipping", None)
    if window is not None and window.ends is None:
        percentiles = {"lower": window.lower, "upper": window.upper, "channel_wise": True}
        return [{"_target_": "ScaleIntensityRangePercentilesd", **_KEY, **percentiles, **ends}]
    scale = case.intensity[0]
    values = {"a_min": scale.low, "a_max": scale.high}
    return [{"_target_": "ScaleIntensityRanged", **_KEY, **values, **ends}]


def _compare(
    dataset: Dataset, steps: Steps, mean: NDArray[np.float64], std: NDArray[np.float64]
) -> None:
    """UserError where MONAI's transforms make another image of a case than the network is shown."""
    by_channel = (-1, *(1,) * dataset.spatial_dims)
    mean, std = mean.reshape(by_channel), std.reshape(by_channel)
    for case in _cases(dataset):
        theirs = np.asarray(transformed(steps, dataset, case), np.float64)
        if theirs.shape != case.image.shape:
            raise UserError(
                f"a MONAI bundle of this network cannot say what it is shown: case {case.case_id} "
                f"of {_sides(case.image)}, where its file is read as {_sides(theirs)} and no "
                f"transform of MONAI's resizes as segbench does; {INSTEAD}"
            )
        apart = float(np.abs(theirs * std + mean - case.image).max())
        if not apart <= _CLOSE:
            by_percentiles = any("Percentiles" in step["_target_"] for step in steps)
            raise UserError(
                "a MONAI bundle of this network cannot say what it is shown: of case "
                f"{case.case_id} MONAI's transforms make values that are up to {apart:.2g} of "
                f"[0, 1] away{_FOREGROUND if by_percentiles else ''}; {INSTEAD}"
            )


def _cases(dataset: Dataset) -> Iterator[Case]:
    return (dataset.load(entry.case_id) for name in dataset.splits
            for entry in dataset.entries(name))  # fmt: skip


def _in_units(case: Case) -> NDArray[np.float32]:
    """The image in the units that its intensity names; as it is where none is known."""
    if case.intensity is None:
        return case.image
    scaled = [
        own * (scale.high - scale.low) + scale.low
        for own, scale in zip(case.image, case.intensity, strict=True)
    ]
    return np.stack(scaled).astype(np.float32)


def _sides(image: NDArray[Any]) -> str:
    sides = " x ".join(map(str, image.shape[1:]))
    return f"{sides} with {image.shape[0]} channels" if image.shape[0] > 1 else sides
