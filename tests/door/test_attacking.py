"""segbench.attack: tensors in, tensors out; closed forms, and the rows of evaluate."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn
from toys import Curved, dense_scene

import segbench
from segbench.errors import UserError
from segbench.metrics import regions


def scene() -> tuple[nn.Module, Tensor, Tensor]:
    return dense_scene(16, 16)


def test_the_linear_network_is_attacked_in_closed_form() -> None:
    """Away from class 0, whose logit falls with the pixel: every pixel goes up by eps."""
    network = nn.Conv2d(1, 2, 1, bias=False)
    network.weight.data = torch.tensor([-1.0, 1.0]).reshape(2, 1, 1, 1)
    images, labels = torch.full((3, 1, 8, 8), 0.4), torch.zeros(3, 8, 8).long()
    attacked = segbench.attack(network, images, labels, "fgsm", eps="8/255", device="cpu")
    torch.testing.assert_close(attacked, images + 8 / 255, atol=1e-6, rtol=0)
    assert attacked.dtype == torch.float32
    assert torch.equal(images, torch.full((3, 1, 8, 8), 0.4))


def test_it_makes_the_images_that_evaluate_scores() -> None:
    network, images, labels = scene()
    spec, eps = "pgd:steps=4", "4/255"
    attacked = segbench.attack(network, images, labels, spec, eps=eps, seed=2, precision="fp32")
    result = segbench.evaluate(
        network, (images, labels), attacks=[spec], eps=[eps], seeds=[2], precision="fp32"
    )
    with torch.no_grad():
        predicted = network(attacked).argmax(1)
    scores = regions.case_score(regions.score_regions(predicted, labels, 3, None))
    cases = result.cases.query("budget > 0").sort_values("case_id")
    assert cases["jaccard"].tolist() == pytest.approx(scores.tolist(), abs=1e-6)
    distances = (attacked - images).abs().flatten(1).amax(1)
    assert cases["linf"].tolist() == pytest.approx(distances.tolist(), abs=1e-7)


def test_ball_box_and_seed() -> None:
    network, images, labels = scene()
    first, again, other = (
        segbench.attack(network, images, labels, "pgd:steps=2", eps="8/255", seed=seed)
        for seed in (0, 0, 1)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert (first - images).abs().max() <= 8 / 255 + 1e-6
    assert first.min() >= 0
    assert first.max() <= 1


def test_more_cases_than_a_shard_come_back_in_order() -> None:
    network, images, labels = scene()
    many = images.repeat(13, 1, 1, 1)[:37], labels.repeat(13, 1, 1)[:37]
    attacked = segbench.attack(network, *many, "fgsm", eps="1/255", precision="fp32")
    expected = segbench.attack(network, images, labels, "fgsm", eps="1/255", precision="fp32")
    torch.testing.assert_close(attacked, expected.repeat(13, 1, 1, 1)[:37], atol=1e-6, rtol=0)


def test_ignored_pixels_and_unheld_classes() -> None:
    network, images, labels = scene()
    labels = labels.clamp(max=1)
    labels[:, :8] = 255
    attacked = segbench.attack(network, images, labels, "fgsm", eps=0.02, ignore_index=255)
    assert attacked.shape == images.shape
    assert not torch.equal(attacked, images)


def test_ignored_pixels_count_nowhere_and_are_changed_as_others_are() -> None:
    """As a folder's ``ignore=`` has it; only ``rois=`` keeps an image as it is somewhere."""
    network, images, labels = scene()
    attacked = []
    for ignored in (255, 7):
        labels[..., :3] = ignored
        found = segbench.attack(network, images, labels, "fgsm", eps=0.02, ignore_index=ignored)
        attacked.append(found)
    assert torch.equal(*attacked)
    inside = (images > 0.02) & (images < 0.98)
    changed = torch.where(inside, (attacked[0] - images).abs(), 0)[..., :3]
    assert changed.max() == pytest.approx(0.02, abs=1e-6)


def test_arrays_volumes_and_half_precision_are_taken() -> None:
    images, labels = np.random.default_rng(0).random((2, 1, 16, 16, 16)), np.zeros((2, 16, 16, 16))
    network = Curved(dims=3)
    attacked = segbench.attack(network, images, labels.astype("uint8"), "fgsm", eps="1/255")
    assert attacked.shape == images.shape
    halves = torch.from_numpy(images).bfloat16()
    attacked = segbench.attack(network, halves, labels.astype("int64"), "fgsm", eps="1/255")
    assert attacked.dtype == torch.float32


def test_attacks_with_budgets_of_their_own_and_no_budget() -> None:
    network, images, labels = scene()
    blurred = segbench.attack(network, images, labels, "corruption/blur:severities=3")
    assert blurred.std() < images.std()
    same = segbench.attack(network, images, labels, "pgd", eps=0)
    assert torch.equal(same, images)
    nearest = segbench.attack(network, images, labels, "dag:steps=3")
    assert nearest.shape == images.shape


NETWORK, IMAGES, LABELS = scene()
WRONG: list[tuple[dict[str, Any], str]] = [
    ({"images": IMAGES * 255}, "images lie in 0 to 255, not in 0 to 1; did you mean images / 255?"),
    ({"images": IMAGES * 4095}, "did you mean images / 4095?"),
    ({"images": IMAGES * 2 - 1}, "normalisation belongs inside the network"),
    ({"images": IMAGES * 1.2}, "clip what rounding has left outside"),
    ({"images": (IMAGES * 255).byte()}, "did you mean images / 255?"),
    ({"images": (IMAGES > 0.5).byte()}, "images are of type uint8, not floating point"),
    ({"images": IMAGES > 0.5}, "did you mean images.float()?"),
    ({"images": IMAGES[0]}, "expected (N, C, H, W)"),
    ({"images": IMAGES[:0]}, "holds no pixel"),
    ({"images": IMAGES / 0}, "images hold NaN or infinite values"),
    ({"images": "folder"}, "images have the shape ()"),
    ({"images": IMAGES.cfloat()}, "images are of type complex64"),
    ({"images": [[0.1], [0.2, 0.3]]}, "images make no array"),
    ({"labels": LABELS[:, None]}, "did you mean labels[:, 0]?"),
    ({"labels": LABELS[:2]}, "labels have the shape (2, 16, 16)"),
    ({"labels": LABELS.float()}, "labels are of type float32; expected whole numbers"),
    ({"labels": LABELS - 100}, "labels hold -100, and classes are counted from 0"),
    ({"labels": (LABELS > 0) * 255}, "did you mean labels // 255?"),
    ({"labels": LABELS + 253}, "answers with 3 classes, 0 to 2; where it marks pixels"),
    ({"labels": LABELS * 0 + 255, "ignore_index": 255}, "every pixel of case 0 is to be ignored"),
    ({"attack": "pgdd"}, "did you mean 'pgd'"),
    ({"attack": "corruption/blur", "eps": None}, "is run at 5 budgets here (1, 2, 3, 4, 5)"),
    ({"attack": "corruption/blur:severities=2"}, "eps means nothing to"),
    ({"attack": "transfer:source=unet"}, "scores images that were made against another network"),
    ({"attack": "uap"}, "an attack that is fitted first needs a data set with cases"),
    ({"eps": None}, "needs a budget"),
    ({"eps": 8}, "did you mean 8/255?"),
    ({"eps": "1/255,2/255"}, "is run at 2 budgets here"),
    ({"eps": True}, "eps true is no number"),
    ({"seed": 0.5}, "seeds has the entry 0.5; expected a whole number"),
    ({"device": "tpu"}, "device 'tpu' cannot be used here"),
    ({"limit": 3}, "segbench.attack has no option 'limit' (valid: weights"),
    ({"network": "unet"}, "looked up among those trained in a workspace"),
    ({"network": nn.Conv2d(1, 3, 1)}, "model Conv2d: it does not accept images of shape"),
]  # fmt: skip


@pytest.mark.parametrize(("given", "words"), WRONG)
def test_what_cannot_be_used_is_refused_in_one_sentence(given: dict[str, Any], words: str) -> None:
    right: Any = {"network": NETWORK, "images": IMAGES, "labels": LABELS, "attack": "fgsm"}
    with pytest.raises(UserError) as caught:
        segbench.attack(**{**right, "eps": 0.01, **given})
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
