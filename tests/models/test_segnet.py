"""What is SegNet's own: values go back to where they were pooled from."""

import torch

from segbench_models import segnet
from segbench_models.nlce import NonLocal


def test_the_decoder_puts_maxima_back_where_they_were() -> None:
    model = segnet.build(in_channels=1, num_classes=2, width=2)
    features = torch.rand(2, 3, 8, 8)
    values, places = model.pool(features)
    restored = model.unpool(values, places)
    kept = restored != 0
    assert torch.equal(restored[kept], features[kept])
    assert kept.sum() == values.numel()


def test_encoder_and_decoder_mirror_each_other() -> None:
    """26 convolutions: VGG-16's 13 and as many again, the last of which gives the classes."""
    model = segnet.build(in_channels=1, num_classes=5, width=2)
    convolutions = [m for m in model.modules() if isinstance(m, torch.nn.Conv2d)]
    assert len(convolutions) == 26
    widths = [m.in_channels for m in convolutions]
    assert widths[13:] == [m.out_channels for m in reversed(convolutions[:13])]


def test_nlce_refines_the_end_of_the_encoder_and_the_start_of_the_decoder() -> None:
    model = segnet.build(in_channels=1, num_classes=2, width=2, nlce=True)
    assert [m.w.out_channels for m in model.modules() if isinstance(m, NonLocal)] == [16, 16]
