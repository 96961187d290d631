"""NLCE against the formulas of the papers, written out naively."""

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from segbench_models.nlce import NLCE, ContextAttention, NonLocal, _as_sequence, encode

SHAPES = [(2, 6, 5, 7), (2, 6, 3, 4, 5)]  # (B, C, *spatial): an image and a volume


def naive_non_local(block: NonLocal, x: Tensor) -> Tensor:
    theta, phi, g = (conv(x).flatten(2) for conv in (block.theta, block.phi, block.g))
    affinity = torch.softmax(torch.einsum("bci,bcj->bij", theta, phi), dim=-1)  # (B, N, N)
    y = torch.einsum("bij,bcj->bci", affinity, g)
    return x + block.w(y.unflatten(2, x.shape[2:]))


def naive_encoding(features: Tensor, codewords: Tensor, smoothing: Tensor) -> Tensor:
    z = features.flatten(2).transpose(1, 2)  # (B, N, D)
    r = z[:, :, None] - codewords  # (B, N, K, D)
    w = torch.softmax(smoothing * r.square().sum(-1), dim=-1)  # (B, N, K)
    return (w[..., None] * r).mean(1)


@pytest.mark.parametrize("memory_format", ["contiguous", "channels_last"])
@pytest.mark.parametrize("shape", SHAPES)
def test_non_local_is_the_naive_formula_in_value_and_gradient(
    shape: tuple[int, ...], memory_format: str
) -> None:
    torch.manual_seed(0)
    block = NonLocal(6, 4, spatial_dims=len(shape) - 2)
    nn.init.normal_(block.w.weight)
    x = torch.randn(shape)
    if memory_format == "channels_last":
        x = x.movedim(1, -1).contiguous().movedim(-1, 1)
    x.requires_grad_()
    direction = torch.randn(shape)
    inputs = (x, *block.parameters())
    ours, naive = block(x), naive_non_local(block, x)
    assert_close(ours, naive, atol=1e-5, rtol=1e-5)
    ours_grad = torch.autograd.grad((ours * direction).sum(), inputs)
    naive_grad = torch.autograd.grad((naive * direction).sum(), inputs)
    assert_close(ours_grad, naive_grad, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_encoding_is_the_naive_residual_formula_in_value_and_gradient(
    shape: tuple[int, ...],
) -> None:
    torch.manual_seed(0)
    features = torch.randn(shape, requires_grad=True)
    codewords = torch.randn(3, 6, requires_grad=True)
    smoothing = (-torch.rand(3)).requires_grad_()
    inputs = (features, codewords, smoothing)
    ours, naive = encode(*inputs), naive_encoding(*inputs)
    assert_close(ours, naive, atol=1e-5, rtol=1e-5)
    direction = torch.randn_like(ours)
    ours_grad = torch.autograd.grad((ours * direction).sum(), inputs)
    naive_grad = torch.autograd.grad((naive * direction).sum(), inputs)
    assert_close(ours_grad, naive_grad, atol=1e-5, rtol=1e-5)


def test_encoding_stays_fp32_under_autocast() -> None:
    torch.manual_seed(0)
    inputs = torch.randn(2, 6, 5, 7), torch.randn(3, 6), -torch.rand(3)
    with torch.autocast("cpu", torch.bfloat16):
        cast = encode(*inputs)
    assert cast.dtype == torch.float32
    assert torch.equal(cast, encode(*inputs))


@pytest.mark.parametrize("shape", SHAPES)
def test_non_local_half_starts_as_the_identity(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape)
    assert torch.equal(NLCE(6, spatial_dims=len(shape) - 2, encoding=False)(x), x)


def test_without_both_halves_nlce_is_the_identity_and_has_no_parameters() -> None:
    nlce = NLCE(6, nonlocal_=False, encoding=False)
    x = torch.randn(1, 6, 4, 4)
    assert torch.equal(nlce(x), x)
    assert not list(nlce.parameters())


def test_channel_attention_scales_each_channel_by_one_factor_in_0_to_1() -> None:
    torch.manual_seed(0)
    x = torch.rand(2, 6, 5, 7) + 1
    gamma = ContextAttention(6, 4, 3, spatial_dims=2)(x) / x
    assert_close(gamma, gamma[..., :1, :1].expand_as(gamma))
    assert gamma.min() > 0
    assert gamma.max() < 1


def test_gates_start_unsaturated() -> None:
    """The reason for averaging over codewords: the sum gives gates of 0 and 1 from the start."""
    torch.manual_seed(0)
    x = torch.rand(4, 256, 8, 8) + 1
    gamma = ContextAttention(256, 128, 32, spatial_dims=2)(x) / x
    assert gamma.min() > 0.2
    assert gamma.max() < 0.8


def trained_like(nlce: NLCE) -> NLCE:
    for parameter in nlce.parameters():
        nn.init.normal_(parameter, std=0.5)
    return nlce.eval()


def test_a_single_position_is_laid_out_as_any_number() -> None:
    """CUDA's attention finds no kernel for strides that only a size of 1 makes contiguous."""
    assert _as_sequence(torch.rand(2, 8, 1, 1)).stride() == (8, 8, 8, 1)
    many = torch.rand(2, 8, 3, 4).contiguous(memory_format=torch.channels_last)
    assert _as_sequence(many).data_ptr() == many.data_ptr()


def test_nlce_commutes_with_permuting_positions() -> None:
    torch.manual_seed(0)
    nlce = trained_like(NLCE(6))
    x = torch.randn(2, 6, 5, 7)
    order = torch.randperm(35)

    def permute(features: Tensor) -> Tensor:
        return features.flatten(2)[:, :, order].unflatten(2, (5, 7))

    assert_close(nlce(permute(x)), permute(nlce(x)), atol=1e-5, rtol=1e-5)


def test_in_evaluation_nlce_of_a_tiled_image_is_the_tiled_nlce() -> None:
    torch.manual_seed(0)
    nlce = trained_like(NLCE(6))
    x = torch.randn(2, 6, 5, 7)
    assert_close(nlce(x.tile(2, 3)), nlce(x).tile(2, 3), atol=1e-5, rtol=1e-5)


class LargestTensor(TorchDispatchMode):
    """Remembers the element count of the largest tensor that any operation returned."""

    elements = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = func(*args, **(kwargs or {}))
        for tensor in out if isinstance(out, tuple | list) else [out]:
            if isinstance(tensor, Tensor):
                self.elements = max(self.elements, tensor.numel())
        return out


def test_largest_tensor_grows_linearly_with_positions() -> None:
    """Neither the (N, N) affinity nor the (N, K, D) residuals exist, forward or backward."""
    nlce = NLCE(8, codewords=5)
    x = torch.randn(1, 8, 32, 32, requires_grad=True)
    with LargestTensor() as seen:
        nlce(x).sum().backward()
    assert seen.elements <= 8 * 32 * 32  # the features themselves


@pytest.mark.parametrize("argument", ["inner_channels", "codewords"])
def test_sizes_below_one_are_refused_by_name(argument: str) -> None:
    with pytest.raises(ValueError, match=f"{argument} is 0, expected 1 or more"):
        NLCE(6, **{argument: 0})
