"""Images rounded to the levels of their files: what that did to them, and which left their budget.

Rounding is towards the clean image. Where that lies between the levels, as after resizing, a pixel
may have none on its way, and goes to the one nearest to the clean pixel; so its change may grow.
"""

from __future__ import annotations

import numpy as np
from pandas import DataFrame

from segbench.metrics.numbering import first_of, number_of
from segbench.tables.texts import by_key, few
from segbench.tables.worst import rounding

_MEASURED = ("linf", "l2")  # the norms whose distances rows hold
_FP32 = 1e-3  # of a budget: what the pixels' own rounding does to a distance
_IMAGE = ["model", "dataset", "split", "attack", "budget_kind", "budget", "case_id", "seed"]


def describe_rounded(rows: DataFrame) -> tuple[list[str], list[str]]:
    """What speaks against the numbers of such images, and how to read them.

    Args:
        rows: as they are stored, under the names that tables show.
    """
    own = rows[(by_key(rows, ["attack_params"], rounding) != "").to_numpy()]
    if own.empty:
        return [], []
    images = own[[*_IMAGE, *_MEASURED]].iloc[first_of(number_of(own, _IMAGE))]
    images = images[images["budget_kind"].isin(_MEASURED)]
    moved = np.where(images["budget_kind"] == "linf", images["linf"], images["l2"])
    images = images.assign(share=moved / images["budget"])
    outside = images[images["share"] > 1 + _FP32]
    warnings = []
    for (dataset, split), left in outside.groupby(["dataset", "split"], sort=True, observed=True):
        among = images[(images["dataset"] == dataset) & (images["split"] == split)]
        attacks = sorted(set(left["attack"].astype("str")))
        warnings.append(
            f"{dataset} {split}: of {len(among)} images that were rounded to the levels of their "
            f"files {len(left)} lie outside their budget, at up to {left['share'].max():.3g} times "
            f"it ({few(attacks)}): their scores are of larger changes than their eps says."
        )
    within = " None of those measured lies outside its budget." if outside.empty else ""
    meaning = (
        "Attacks with quantized=true are scored on images rounded to the levels of their files, "
        "towards the clean image. Where that lies on the levels itself, a change of less than a "
        "level is gone; where it does not, as after resizing, a pixel without a level on its way "
        "goes to the one nearest to the clean pixel, and may change by more than the attack did."
    )
    return warnings, [meaning + (within if len(images) else "")]
