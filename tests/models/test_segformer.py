"""What is SegFormer's own: its attention, its sizes, and another library's logits."""

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from segbench_models import segformer
from segbench_models.segformer import EfficientAttention, StochasticDepth

# Table 1 of the paper, in millions, for RGB and 150 classes: encoder, decoder.
PAPER = {"mit_b0": (3.4, 0.4), "mit_b1": (13.1, 0.6), "mit_b2": (24.2, 3.3)}


@pytest.mark.parametrize("encoder", PAPER)
def test_encoder_and_decoder_have_the_papers_sizes(encoder: str) -> None:
    with torch.device("meta"):
        model = segformer.build(in_channels=3, num_classes=150, encoder=encoder)
    whole, inner = (sum(p.numel() for p in m.parameters()) for m in (model, model.encoder))
    sizes = (inner / 1e6, (whole - inner) / 1e6)
    assert sizes == pytest.approx(PAPER[encoder], abs=0.09)


def test_without_reduction_the_attention_is_torchs_own() -> None:
    torch.manual_seed(0)
    ours, theirs = EfficientAttention(2, 8, 2, 1), nn.MultiheadAttention(8, 2, batch_first=True)
    linear = (ours.query, ours.key, ours.value)
    theirs.in_proj_weight.data = torch.cat([layer.weight for layer in linear])
    theirs.in_proj_bias.data = torch.cat([layer.bias for layer in linear])
    theirs.out_proj.load_state_dict(ours.project.state_dict())
    tokens = torch.randn(2, 5, 7, 8)
    sequence = tokens.flatten(1, 2)
    expected = theirs(sequence, sequence, sequence)[0].reshape(tokens.shape)
    assert_close(ours(tokens), expected, atol=1e-6, rtol=1e-5)


def test_keys_and_values_are_of_the_reduced_map() -> None:
    """A reduction that averages patches of 2 x 2, then the formula written out."""
    torch.manual_seed(0)
    block = EfficientAttention(2, 6, 1, 2)
    block.reduce.norm = nn.Identity()
    nn.init.zeros_(block.reduce.conv.bias)
    block.reduce.conv.weight.data = torch.eye(6)[..., None, None].expand(6, 6, 2, 2) / 4
    x = torch.randn(2, 4, 6, 6)
    patches = x.unflatten(1, (2, 2)).unflatten(3, (3, 2)).mean((2, 4)).flatten(1, 2)  # (B, 6, C)
    q, k, v = block.query(x.flatten(1, 2)), block.key(patches), block.value(patches)
    y = torch.softmax(q @ k.transpose(1, 2) / 6**0.5, dim=-1) @ v
    assert_close(block(x), block.project(y).reshape(x.shape), atol=1e-6, rtol=1e-5)


class LargestTensor(TorchDispatchMode):
    """Remembers the element count of the largest tensor that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


def test_the_affinity_is_never_in_memory() -> None:
    block = EfficientAttention(2, 8, 2, 1)
    tokens = torch.randn(1, 32, 32, 8, requires_grad=True)
    with LargestTensor() as seen:
        block(tokens).sum().backward()
    assert seen.elements <= tokens.numel()


def test_stochastic_depth_drops_whole_cases_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    drop = StochasticDepth(0.25)
    factors = drop(torch.ones(4000, 2, 3, 5))
    each = factors[:, 0, 0, 0]
    assert torch.equal(factors, each[:, None, None, None].expand_as(factors))
    assert each.unique().tolist() == pytest.approx([0, 4 / 3])
    assert each.mean() == pytest.approx(1, abs=0.05)
    assert torch.equal(drop.eval()(torch.ones(3, 2)), torch.ones(3, 2))


def test_an_unknown_encoder_is_refused_with_the_valid_names() -> None:
    with pytest.raises(ValueError, match="'mit_b9', expected one of mit_b0, mit_b1, mit_b2"):
        segformer.build(in_channels=1, num_classes=2, encoder="mit_b9")


def test_the_logits_are_those_of_transformers() -> None:
    """Both hold their layers in one order; a 1x1 convolution here is a linear layer there."""
    transformers = pytest.importorskip("transformers", minversion="5", exc_type=ImportError)
    torch.manual_seed(0)
    config = transformers.SegformerConfig(num_channels=1, num_labels=3, decoder_hidden_size=16)
    theirs = transformers.SegformerForSemanticSegmentation(config).eval()
    ours = segformer.build(in_channels=1, num_classes=3, width=16).eval()
    layers = [ours.encoder, ours.unify, ours.fuse, ours.classify]
    tensors = [tensor for layer in layers for tensor in layer.state_dict().values()]
    for tensor, given in zip(tensors, theirs.state_dict().values(), strict=True):
        tensor.copy_(given.reshape(tensor.shape))
    images = torch.rand(2, 1, 64, 96)
    with torch.no_grad():
        coarse = theirs(pixel_values=ours.normalize(images)).logits  # at stride 4
        expected = nn.functional.interpolate(coarse, size=(64, 96), mode="bilinear")
        assert_close(ours(images), expected, atol=1e-5, rtol=1e-4)
