"""The training loss: another library's answer, and what is ignored has no say."""

import pytest
import torch
from monai.losses import DiceCELoss

from segbench.errors import MachineError
from segbench.training.loss import IGNORED, dice_cross_entropy, supervised_loss


def draw(classes: int, *shape: int) -> tuple[torch.Tensor, torch.Tensor]:
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(2, classes, *shape, generator=random)
    return logits, torch.randint(0, classes, (2, *shape), generator=random)


@pytest.mark.parametrize("classes", [2, 4])
@pytest.mark.parametrize("shape", [(8, 6), (4, 6, 5)])
@pytest.mark.parametrize("weight", [0.0, 1.0, 0.3])
def test_it_is_monai_s_dice_cross_entropy(
    classes: int, shape: tuple[int, ...], weight: float
) -> None:
    logits, labels = draw(classes, *shape)
    theirs = DiceCELoss(
        softmax=True, to_onehot_y=True, batch=True, smooth_nr=0, smooth_dr=0, lambda_dice=weight
    )
    expected = theirs(logits, labels.unsqueeze(1))
    torch.testing.assert_close(dice_cross_entropy(logits, labels, weight), expected)


def test_ignored_pixels_change_neither_loss_nor_gradient() -> None:
    logits, labels = draw(3, 8, 6)
    whole = torch.cat([logits, 9 * torch.ones(2, 3, 8, 4)], dim=3).requires_grad_()
    padded = torch.cat([labels, torch.full((2, 8, 4), IGNORED)], dim=2)
    part = logits.clone().requires_grad_()
    losses = [dice_cross_entropy(whole, padded, 1.0), dice_cross_entropy(part, labels, 1.0)]
    torch.testing.assert_close(*losses)
    sum(losses).backward()
    torch.testing.assert_close(whole.grad[..., :6], part.grad)
    assert not whole.grad[..., 6:].any()


def test_a_batch_of_ignored_pixels_only_has_a_finite_loss_and_no_gradient() -> None:
    logits = draw(3, 4, 4)[0].requires_grad_()
    loss = dice_cross_entropy(logits, torch.full((2, 4, 4), IGNORED), 1.0)
    loss.backward()
    assert loss.isfinite()
    assert not logits.grad.any()


def test_a_perfect_prediction_has_no_loss_also_where_a_class_is_absent() -> None:
    labels = torch.zeros(1, 4, 4, dtype=torch.long)
    labels[0, :2] = 1
    logits = 100.0 * torch.nn.functional.one_hot(labels, 3).movedim(-1, 1)
    assert dice_cross_entropy(logits, labels, 1.0) < 1e-6


def test_one_sigmoid_channel_is_the_two_class_logits_0_and_z() -> None:
    logits, labels = draw(1, 8, 6)[0], draw(2, 8, 6)[1]
    two = torch.cat([torch.zeros_like(logits), logits], dim=1)
    torch.testing.assert_close(
        dice_cross_entropy(logits, labels, 1.0), dice_cross_entropy(two, labels, 1.0)
    )


@pytest.mark.parametrize("shape", [(8, 6), (4, 6, 8)])
def test_auxiliary_logits_count_by_their_mean_and_their_weight(shape: tuple[int, ...]) -> None:
    logits, labels = draw(3, *shape)
    coarse = torch.randn(2, 3, *(s // 2 for s in shape))
    mode = "bilinear" if len(shape) == 2 else "trilinear"
    fine = torch.nn.functional.interpolate(coarse, shape, mode=mode)
    main, first, second = (dice_cross_entropy(x, labels, 1.0) for x in (logits, fine, logits))
    found = supervised_loss((logits, [coarse, logits]), labels, dice_weight=1.0, aux_weight=0.4)
    torch.testing.assert_close(found, main + 0.4 * (first + second) / 2)
    alone = supervised_loss((logits, []), labels, dice_weight=1.0, aux_weight=0.4)
    torch.testing.assert_close(alone, main)


def test_any_other_output_is_refused_by_its_type() -> None:
    with pytest.raises(MachineError, match="returned dict in training mode"):
        supervised_loss({}, torch.zeros(1, 2, 2).long(), dice_weight=1.0, aux_weight=0.0)
