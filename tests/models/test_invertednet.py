"""What is InvertedNet's own: many maps early, a delayed halving, Gaussian dropout."""

import pytest
import torch

from segbench_models import invertednet


def test_feature_maps_halve_with_depth_and_the_first_pooling_keeps_the_resolution() -> None:
    model = invertednet.build(in_channels=1, num_classes=2, width=32).eval()
    shapes = []
    for stage in model.down:
        stage.register_forward_hook(lambda _m, _i, out: shapes.append(tuple(out.shape[1:])))
    model(torch.rand(1, 1, 32, 32))
    assert shapes == [(32, 32, 32), (16, 32, 32), (8, 16, 16), (4, 8, 8), (2, 4, 4)]


def test_the_papers_width_has_a_tenth_of_unets_parameters() -> None:
    with torch.device("meta"):
        model = invertednet.build(in_channels=1, num_classes=2, width=256)
    assert 2.5e6 < sum(p.numel() for p in model.parameters()) < 4e6


def test_gaussian_dropout_multiplies_by_noise_of_the_stated_variance() -> None:
    torch.manual_seed(0)
    factors = invertednet.GaussianDropout(0.2)(torch.ones(200_000))
    assert factors.mean() == pytest.approx(1, abs=0.01)
    assert factors.var() == pytest.approx(0.2 / 0.8, rel=0.02)


@pytest.mark.parametrize("rate", [-0.1, 1.0])
def test_an_impossible_dropout_is_refused(rate: float) -> None:
    with pytest.raises(ValueError, match=r"dropout is .*, expected a rate in"):
        invertednet.build(in_channels=1, num_classes=2, dropout=rate)
