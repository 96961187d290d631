"""NLCE: the non-local context encoder, a module for any convolutional segmentation network.

He, Yang, Zhang, et al., "Non-Local Context Encoder: Robust Biomedical Image Segmentation against
Adversarial Attacks", AAAI 2019, arXiv 1904.12181. It joins the non-local block of Wang et al.
(CVPR 2018, arXiv 1711.07971) with the context encoding of Zhang et al. (CVPR 2018, "EncNet",
arXiv 1803.08904), whose context vector drives a channel-wise attention.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from segbench_models.dimensions import CONV, conv_norm_relu
from segbench_models.hyperparameters import check_at_least


class NLCE(nn.Module):
    """Features X (B, C, *spatial) -> features of the same shape, Z * gamma.

    Z = X + W(attention(X)) is the non-local block, gamma = sigmoid(FC(e)) in (0, 1) the channel
    attention, e the context encoding of Z. Either half can be left out: without `nonlocal_`
    Z = X, without `encoding` gamma = 1, without both the module is the identity.

    `inner_channels` is C1 of the non-local block and D of the encoding. The paper's is 128; the
    default is 128 but at most half of `channels` (Wang et al.'s bottleneck), which is 128 at every
    level of a ResNet-50.
    """

    def __init__(
        self,
        channels: int,
        *,
        spatial_dims: int = 2,
        inner_channels: int | None = None,
        codewords: int = 32,
        nonlocal_: bool = True,
        encoding: bool = True,
    ) -> None:
        super().__init__()
        inner = min(128, max(1, channels // 2)) if inner_channels is None else inner_channels
        check_at_least(1, channels=channels, inner_channels=inner, codewords=codewords)
        self.nonlocal_ = NonLocal(channels, inner, spatial_dims) if nonlocal_ else nn.Identity()
        self.attention = (
            ContextAttention(channels, inner, codewords, spatial_dims)
            if encoding
            else nn.Identity()
        )

    def forward(self, features: Tensor) -> Tensor:
        """X -> Z * gamma."""
        out: Tensor = self.attention(self.nonlocal_(features))
        return out


class NonLocal(nn.Module):
    """The embedded-Gaussian non-local block: Z = X + W softmax(theta(X)' phi(X)) g(X).

    The softmax runs over all N positions; the (N, N) affinity is never in memory. W starts at
    zero, so the block starts as the identity. No sub-sampling of phi and g, no norm after W.
    """

    def __init__(self, channels: int, inner_channels: int, spatial_dims: int) -> None:
        super().__init__()
        conv = CONV[spatial_dims]
        self.theta = conv(channels, inner_channels, 1)
        self.phi = conv(channels, inner_channels, 1)
        self.g = conv(channels, inner_channels, 1)
        self.w = conv(inner_channels, channels, 1)
        nn.init.zeros_(self.w.weight)
        if self.w.bias is not None:
            nn.init.zeros_(self.w.bias)

    def forward(self, features: Tensor) -> Tensor:
        """X (B, C, *spatial) -> Z of the same shape."""
        theta = self.theta(features)  # (B, C1, *spatial)
        y = F.scaled_dot_product_attention(
            _as_sequence(theta),
            _as_sequence(self.phi(features)),
            _as_sequence(self.g(features)),
            scale=1.0,
        )  # (B, 1, N, C1)
        z: Tensor = features + self.w(y.squeeze(1).transpose(1, 2).reshape(theta.shape))
        return z


def _as_sequence(features: Tensor) -> Tensor:
    """(B, C1, *spatial) -> (B, 1, N, C1), contiguous: without a copy when channels-last.

    On any other layout torch falls back, silently, to attention that stores the (N, N) affinity.
    A single position is contiguous whatever its strides say, and CUDA's kernels go by what they
    say; the view gives it those of its shape.
    """
    sequence = features.flatten(2).transpose(1, 2).unsqueeze(1).contiguous()
    return sequence.view(sequence.shape)


class ContextAttention(nn.Module):
    """Context encoding and the channel attention that it drives: Z -> Z * sigmoid(FC(e)).

    Batch norm and ReLU follow the encoding, as in EncNet's text. Where its released code differs
    from the text, the code is taken: batch norm and ReLU also follow the 1x1 projection to D
    channels, and e is the mean over the K codewords, not their sum (which would start the sigmoid
    saturated, and hide gradients). Z is gated as NLCE writes it, not as EncNet's
    relu(Z + Z * gamma).
    """

    def __init__(
        self, channels: int, inner_channels: int, codewords: int, spatial_dims: int
    ) -> None:
        super().__init__()
        self.project = conv_norm_relu(spatial_dims, channels, inner_channels, 1)
        bound = (codewords * inner_channels) ** -0.5
        self.codewords = nn.Parameter(
            torch.empty(codewords, inner_channels).uniform_(-bound, bound)
        )
        self.smoothing = nn.Parameter(torch.empty(codewords).uniform_(-1, 0))
        self.norm = nn.BatchNorm1d(codewords)
        self.fc = nn.Linear(inner_channels, channels)
        self.unflatten = nn.Unflatten(1, (channels, *[1] * spatial_dims))

    def forward(self, features: Tensor) -> Tensor:
        """Z (B, C, *spatial) -> Z * gamma."""
        e = encode(self.project(features), self.codewords, self.smoothing)  # (B, K, D)
        context = F.relu(self.norm(e)).mean(1)  # (B, D)
        gamma = torch.sigmoid(self.unflatten(self.fc(context)))  # (B, C, 1, 1)
        return features * gamma


def encode(features: Tensor, codewords: Tensor, smoothing: Tensor) -> Tensor:
    """Residual encoding e_k = 1/N sum_i w_ik (z_i - d_k), w_ik = softmax_k(s_k |z_i - d_k|^2).

    z is `features` (B, D, *spatial) over its N positions, d the `codewords` (K, D), s their
    `smoothing` (K,); the result is (B, K, D), float32. EncNet sums over i; the mean is the same in
    training, where batch norm follows, and does not depend on the image size in evaluation.

    The residuals (B, N, K, D) are expanded and never stored. The expansion cancels, hence float32
    whatever autocast says.
    """
    with torch.autocast(features.device.type, enabled=False):
        z = features.flatten(2).transpose(1, 2).float()  # (B, N, D)
        d = codewords.float()
        s = smoothing.float()
        squared_distance = (
            z.square().sum(-1, keepdim=True) - 2 * (z @ d.T) + d.square().sum(-1)
        )  # (B, N, K)
        w = torch.softmax(s * squared_distance, dim=-1)
        e = w.transpose(1, 2) @ z - w.sum(1).unsqueeze(-1) * d
        return e / z.shape[1]


# Autocast regions and shape arithmetic stay one step in a traced graph.
torch.fx.wrap("encode")
