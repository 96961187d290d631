"""What is SLSDeep's own: its loss, negative log-likelihood plus end-point error."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from segbench.api import BringsLoss
from segbench_models import slsdeep

BIG = 200.0  # a logit difference whose softmax is 0 or 1 in float32


def certain(labels: torch.Tensor) -> torch.Tensor:
    """Two-class logits that predict these labels with certainty."""
    return BIG * F.one_hot(labels, 2).movedim(-1, 1).float()


def test_end_point_error_of_the_truth_is_zero() -> None:
    labels = (torch.rand(2, 9, 7) > 0.5).long()
    assert slsdeep.end_point_error(certain(labels), labels) == 0


def test_end_point_error_of_a_missed_step_is_its_edge_length_per_pixel() -> None:
    """The truth is a half plane and the prediction empty: one jump of height 1 in each row."""
    labels = torch.zeros(1, 5, 9, dtype=torch.long)
    labels[..., 4:] = 1
    error = slsdeep.end_point_error(certain(torch.zeros_like(labels)), labels)
    assert_close(error, torch.tensor(4 / (4 * 8.0)), atol=1e-5, rtol=0)


def test_end_point_error_sees_edges_not_levels() -> None:
    """A constant offset has no gradient; likelihood alone is about levels."""
    labels = torch.zeros(1, 6, 6, dtype=torch.long)
    logits = torch.zeros(1, 2, 6, 6)
    assert slsdeep.end_point_error(logits, labels) == 0


def test_the_loss_is_likelihood_plus_weighted_error() -> None:
    torch.manual_seed(0)
    model = slsdeep.build(
        in_channels=1, num_classes=3, encoder="resnet18", width=4, edge_weight=0.7
    )
    assert isinstance(model, BringsLoss)
    logits, labels = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    expected = F.cross_entropy(logits, labels) + 0.7 * slsdeep.end_point_error(logits, labels)
    assert_close(model.loss(logits, labels), expected)


@pytest.mark.parametrize("spatial", [(8, 8), (4, 6, 8), (1, 8)])
def test_ignored_pixels_have_no_part_in_the_loss(spatial: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    model = slsdeep.build(in_channels=1, num_classes=2, encoder="resnet18", width=4)
    labels = torch.randint(0, 2, (2, *spatial))
    ignored = torch.rand(labels.shape) < 0.3
    logits = torch.randn(2, 2, *spatial, requires_grad=True)
    loss = model.loss(logits, labels.masked_fill(ignored, -100))
    (gradient,) = torch.autograd.grad(loss, logits)
    assert gradient.isfinite().all()
    assert gradient.movedim(1, -1)[ignored].abs().max() == 0
