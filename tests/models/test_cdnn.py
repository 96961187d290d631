"""What is CDNN's own: the Jaccard distance and post-processing by two thresholds."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from segbench.api import BringsLoss, BringsPostprocess
from segbench.metrics.regions import score_regions
from segbench_models import cdnn
from segbench_models.dual_threshold import keep_confident_regions


def probabilities(of_lesion: torch.Tensor) -> torch.Tensor:
    """Two-class probabilities (1, 2, H, W) from the lesion's (H, W)."""
    return torch.stack([1 - of_lesion, of_lesion])[None]


def test_on_certain_predictions_the_loss_is_one_minus_jaccard() -> None:
    """Up to the constant 1 in numerator and denominator: (|A and B| + 1) / (|A or B| + 1)."""
    torch.manual_seed(0)
    truth, predicted = (torch.rand(3, 40, 40) > 0.6).long(), (torch.rand(3, 40, 40) > 0.3).long()
    logits = 200.0 * F.one_hot(predicted, 2).movedim(-1, 1)
    jaccard = score_regions(predicted, truth, 2, None).jaccard[:, 0]
    distance = cdnn.jaccard_distance(logits, truth)[:, 0]
    assert_close(distance.double(), 1 - jaccard.double(), atol=2e-3, rtol=0)


def test_ignored_pixels_have_no_part_in_the_loss() -> None:
    torch.manual_seed(0)
    model = cdnn.build(in_channels=1, num_classes=3, width=2)
    assert isinstance(model, BringsLoss)
    labels, logits = torch.randint(0, 3, (2, 8, 8)), torch.randn(2, 3, 8, 8, requires_grad=True)
    ignored = torch.rand(labels.shape) < 0.3
    loss = model.loss(logits, labels.masked_fill(ignored, -100))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.movedim(1, -1)[ignored].abs().max() == 0


def test_an_absent_class_still_has_a_slope_towards_absence() -> None:
    logits = torch.zeros(1, 2, 4, 4, requires_grad=True)
    loss = cdnn.jaccard_distance(logits, torch.zeros(1, 4, 4, dtype=torch.long)).sum()
    (gradient,) = torch.autograd.grad(loss, logits)
    assert (gradient[:, 1] > 0).all()


def test_a_region_without_a_certain_part_goes_and_its_neighbour_stays_to_its_low_edge() -> None:
    lesion = torch.zeros(12, 12)
    lesion[1:5, 1:5] = 0.6
    lesion[2, 2] = 0.9  # certain: its whole region stays
    lesion[7:10, 7:10] = 0.7  # nowhere certain
    expected = torch.zeros(12, 12, dtype=torch.long)
    expected[1:5, 1:5] = 1
    for regions in ("every", "largest"):
        assert torch.equal(keep_confident_regions(probabilities(lesion), regions)[0], expected)


def test_largest_keeps_the_region_with_the_largest_certain_part_and_every_keeps_both() -> None:
    lesion = torch.zeros(12, 12)
    lesion[0:6, 0:6] = 0.6  # the larger region
    lesion[0, 0] = 0.9
    lesion[8:11, 8:11] = 0.9  # the larger certain part
    largest = keep_confident_regions(probabilities(lesion), "largest")[0]
    assert largest.nonzero().min() == 8
    assert torch.equal(keep_confident_regions(probabilities(lesion), "every")[0] > 0, lesion > 0.5)


def test_holes_are_filled_with_their_class_but_never_over_another_class() -> None:
    labels = torch.zeros(9, 9, dtype=torch.long)
    labels[1:8, 1:8] = 1
    labels[3, 3] = 0
    labels[5, 5] = 2
    filled = keep_confident_regions(F.one_hot(labels, 3).movedim(-1, 0)[None].float())[0]
    expected = labels.clone()
    expected[3, 3] = 1
    assert torch.equal(filled, expected)


@pytest.mark.parametrize("regions", ["every", "largest"])
def test_without_any_certain_pixel_the_likeliest_region_remains(regions: str) -> None:
    lesion = torch.zeros(9, 9)
    lesion[0:3, 0:3] = 0.6
    lesion[5, 5] = 0.7
    kept = keep_confident_regions(probabilities(lesion), regions)[0]  # type: ignore[arg-type]
    assert torch.equal(kept > 0, lesion == 0.6)


def test_an_empty_prediction_stays_empty_and_a_volume_is_one_region() -> None:
    assert keep_confident_regions(probabilities(torch.zeros(5, 5))).sum() == 0
    volume = torch.zeros(1, 2, 4, 4, 4)
    volume[:, 0] = 1
    volume[0, :, 1:3, 1, 1] = torch.tensor([[0.05], [0.95]])
    assert keep_confident_regions(volume, "largest").sum() == 2


def test_the_network_brings_its_postprocessing() -> None:
    model = cdnn.build(in_channels=1, num_classes=2, width=2, regions="largest").eval()
    assert isinstance(model, BringsPostprocess)
    logits = torch.randn(2, 2, 16, 16)
    labels = model.postprocess(logits)
    assert labels.shape == (2, 16, 16)
    assert torch.equal(labels, keep_confident_regions(logits.softmax(1), "largest"))
