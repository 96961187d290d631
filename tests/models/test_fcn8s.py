"""What is FCN-8s's own: scores of three strides, upsampling that starts as linear."""

import pytest
import torch
from torch.nn import functional as F
from torch.testing import assert_close

from segbench_models import fcn8s


@pytest.mark.parametrize("spatial_dims", [2, 3])
def test_learned_upsampling_starts_as_linear_interpolation(spatial_dims: int) -> None:
    scores = torch.rand(1, 3, *[6] * spatial_dims)
    mode = "bilinear" if spatial_dims == 2 else "trilinear"
    expected = F.interpolate(scores, scale_factor=2.0, mode=mode, align_corners=False)
    inside = (..., *[slice(1, -1)] * spatial_dims)  # outside lie zeros, not the edge
    assert_close(fcn8s.linear_doubling(3, spatial_dims)(scores)[inside], expected[inside])


def test_the_logits_are_the_sum_of_three_scores() -> None:
    """Every other score at zero, a constant one passes through its upsamplings alone."""
    model = fcn8s.build(in_channels=1, num_classes=2, width=2, classifier=4).eval()
    for score in (model.score3, model.score4, model.score7):
        torch.nn.init.zeros_(score.weight)
    for name in ("score3", "score4", "score7"):
        for other in ("score3", "score4", "score7"):
            torch.nn.init.constant_(getattr(model, other).bias, float(other == name))
        logits = model(torch.rand(1, 1, 256, 256))
        assert_close(logits[..., 112:144, 112:144], torch.ones(1, 2, 32, 32))


def test_the_papers_classifier_width_gives_the_papers_size() -> None:
    """VGG-16's convolutions, fc6 and fc7 of 4096 channels: 134 million parameters."""
    with torch.device("meta"):
        model = fcn8s.build(in_channels=3, num_classes=21, classifier=4096)
    assert sum(p.numel() for p in model.parameters()) == pytest.approx(134.5e6, rel=0.01)
