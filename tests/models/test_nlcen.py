"""What is NLCEN's own: deep supervision, the ablations, the order of its levels."""

from typing import Any

import pytest
import torch
from torch.testing import assert_close

from segbench_models import nlcen, unet
from segbench_models.nlce import NLCE, NonLocal

SMALL: dict[str, Any] = {"in_channels": 1, "num_classes": 2, "encoder": "resnet18", "width": 4}


def test_training_gives_a_side_prediction_per_level_and_evaluation_none() -> None:
    model = nlcen.build(**SMALL)
    images = torch.rand(2, 1, 37, 45)
    logits, sides = model(images)
    assert [side.shape for side in sides] == [logits.shape] * 4
    assert isinstance(model.eval()(images), torch.Tensor)


def test_without_supervision_training_gives_logits_alone() -> None:
    model = nlcen.build(**SMALL, supervision=False)
    assert isinstance(model(torch.rand(2, 1, 32, 32)), torch.Tensor)
    assert not [name for name, _ in model.named_parameters() if name.startswith("side")]


@pytest.mark.parametrize("half", ["nonlocal_", "encoding"])
def test_an_ablation_removes_the_parameters_of_its_half_and_no_others(half: str) -> None:
    def shapes(model: torch.nn.Module) -> dict[str, torch.Size]:
        return {name: parameter.shape for name, parameter in model.named_parameters()}

    whole, ablated = shapes(nlcen.build(**SMALL)), shapes(nlcen.build(**SMALL, **{half: False}))
    removed = {"nonlocal_": ".nonlocal_.", "encoding": ".attention."}[half]
    assert ablated == {name: shape for name, shape in whole.items() if removed not in name}
    assert len(ablated) < len(whole)


def test_every_level_is_refined_before_it_enters_the_pyramid() -> None:
    model = nlcen.build(**SMALL)
    assert [type(nlce) for nlce in model.refine] == [NLCE] * 4
    widths = [nlce.nonlocal_.w.out_channels for nlce in model.refine]
    assert widths == model.encoder.channels


def test_pyramid_sums_from_the_top_down() -> None:
    """With lateral and smoothing maps replaced by identities, P_l is the sum of C_l..C_5."""
    torch.manual_seed(0)
    pyramid = nlcen.Pyramid([3, 3, 3, 3], 3, spatial_dims=2)
    for maps in (pyramid.lateral, pyramid.smooth):
        for level in range(4):
            maps[level] = torch.nn.Identity()
    # Constant maps are unchanged by upsampling.
    constants = torch.randn(4, 1, 3, 1, 1)
    levels = pyramid([c.expand(1, 3, 16 >> i, 16 >> i) for i, c in enumerate(constants)])
    for i, level in enumerate(levels):
        assert_close(level, constants[i:].sum(0).expand_as(level))


def test_unet_grafts_nlce_at_its_bottleneck_and_deepest_skip() -> None:
    model = unet.build(in_channels=1, num_classes=2, width=4, depth=3, nlce=True)
    channels = [m.w.out_channels for m in model.modules() if isinstance(m, NonLocal)]
    assert channels == [16, 32]
