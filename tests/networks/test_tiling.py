"""Tiles: MONAI's answer, the gradient of the stitched answer, the memory of one tile."""

import itertools

import pytest
import torch
from monai.inferers.utils import sliding_window_inference
from torch import Tensor, nn
from toys import Curved

from segbench.errors import UserError
from segbench.networks.adapt import adapt_network
from segbench.networks.front_layers import BitDepth
from segbench.networks.fronted import Fronted
from segbench.networks.normalize import Normalization
from segbench.networks.tiling import TiledNetwork, Tiles, parse_tiles
from segbench.networks.whole_image import in_tiles

CASES = [
    (2, (21, 26), Tiles((8,))),
    (2, (21, 26), Tiles((9, 40), 0.25, "constant")),
    (3, (11, 9, 13), Tiles((6, 6, 8))),
    (3, (11, 9, 13), Tiles((7,), 0.0)),
]


def scene(dims: int, spatial: tuple[int, ...]) -> tuple[Curved, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(dims)
    net = Curved(outputs=3, dims=dims).eval().requires_grad_(False)
    images = torch.rand(2, 1, *spatial, generator=draw)
    return net, images, torch.randn(2, 3, *spatial, generator=draw)


@pytest.mark.parametrize(("dims", "spatial", "tiles"), CASES, ids=str)
def test_the_answer_is_that_of_monai_s_inferer(
    dims: int, spatial: tuple[int, ...], tiles: Tiles
) -> None:
    net, images, _ = scene(dims, spatial)
    right = sliding_window_inference(
        images, tiles.within(spatial), 4, net, overlap=tiles.overlap, mode=tiles.weights
    )
    torch.testing.assert_close(TiledNetwork(net, tiles)(images), right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("dims", "spatial", "tiles"), CASES, ids=str)
def test_the_gradient_is_that_of_the_stitched_answer(
    dims: int, spatial: tuple[int, ...], tiles: Tiles
) -> None:
    """Autograd through MONAI's inferer keeps every tile's activations, and is right."""
    net, images, weights = scene(dims, spatial)

    def gradient(ask: object) -> Tensor:
        leaf = images.clone().requires_grad_()
        loss = (torch.tanh(ask(leaf)) * weights).sum()  # type: ignore[operator]
        (found,) = torch.autograd.grad(loss, leaf)
        return found

    right = gradient(
        lambda x: sliding_window_inference(
            x, tiles.within(spatial), 1, net, overlap=tiles.overlap, mode=tiles.weights
        )
    )
    torch.testing.assert_close(gradient(TiledNetwork(net, tiles)), right, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dims", [2, 3])
def test_tiled_equals_whole_where_every_pixel_is_for_itself(dims: int) -> None:
    """The most translation-equivariant of networks: no pixel sees another, so no edge is felt."""
    conv = nn.Conv2d if dims == 2 else nn.Conv3d
    torch.manual_seed(0)
    net = nn.Sequential(conv(1, 4, 1), nn.Tanh(), conv(4, 2, 1)).requires_grad_(False)
    images = torch.rand(2, 1, *(19, 23, 12)[:dims])
    tiled = TiledNetwork(net, Tiles((8,)))
    answers, gradients = [], []
    for network in (net, tiled):
        leaf = images.clone().requires_grad_()
        answer = network(leaf)
        answer.square().sum().backward()
        answers.append(answer.detach())
        gradients.append(leaf.grad)
    torch.testing.assert_close(answers[1], answers[0], rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(gradients[1], gradients[0], rtol=1e-5, atol=1e-6)


def test_away_from_a_tile_s_edges_a_convolution_feels_nothing_of_them() -> None:
    net, images, _ = scene(2, (24, 24))
    tiles = Tiles((12,), 0.0, "constant")
    inside = torch.zeros(24, 24, dtype=torch.bool)
    for y, x in itertools.product((0, 12), (0, 12)):
        inside[y + 1 : y + 11, x + 1 : x + 11] = True
    whole, tiled = net(images), TiledNetwork(net, tiles)(images)
    torch.testing.assert_close(tiled[..., inside], whole[..., inside], rtol=1e-5, atol=1e-6)
    assert (tiled - whole).abs()[..., ~inside].max() > 1e-3


class Counting(nn.Module):
    """What autograd keeps at once of the tiles it is asked about."""

    def __init__(self) -> None:
        super().__init__()
        self.alive, self.most, self.largest = 0, 0, 0

    def forward(self, images: Tensor) -> Tensor:
        self.largest = max(self.largest, images.numel())
        if torch.is_grad_enabled():
            self.alive += 1
            self.most = max(self.most, self.alive)
            images.register_hook(lambda _: setattr(self, "alive", self.alive - 1))
        return torch.cat([images, images.square()], 1)


def test_no_two_tiles_are_held_at_once() -> None:
    net = Counting()
    leaf = torch.rand(1, 1, 40, 40).requires_grad_()
    TiledNetwork(net, Tiles((8,)))(leaf).sum().backward()
    assert (net.most, net.largest) == (1, 64)
    right = 1 + 2 * leaf.detach()
    torch.testing.assert_close(leaf.grad, right, rtol=1e-4, atol=1e-4)


class Drawing(nn.Module):
    """Another gain at every question."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([images, images * (1 + torch.rand(()))], 1)


def test_a_network_that_draws_draws_the_same_for_the_gradient() -> None:
    tiled = TiledNetwork(Drawing(), Tiles((8,), 0.0, "constant"))
    leaf = torch.rand(1, 1, 16, 16).requires_grad_()
    torch.manual_seed(3)
    answer = tiled(leaf)
    torch.manual_seed(99)
    answer[:, 1].sum().backward()
    assert leaf.grad is not None
    torch.testing.assert_close(leaf.grad[0, 0], (answer[0, 1] / leaf[0, 0]).detach())


@pytest.mark.parametrize(
    ("text", "overlap", "words"),
    [
        ("128x", 0.5, "is no size of tiles"),
        ("2", 0.5, "is no size of tiles"),
        ("8x8x8x8", 0.5, "is no size of tiles"),
        ("64", 1.0, "--overlap 1 is not a share"),
        ("64", float("nan"), "is not a share"),
    ],
)
def test_what_is_no_tile_is_refused(text: str, overlap: float, words: str) -> None:
    with pytest.raises(UserError, match=words):
        parse_tiles(text, overlap, "gaussian")
    with pytest.raises(UserError, match="has 3 sides; these images have 2 axes"):
        Tiles((8, 8, 8)).within((32, 32))


class Gain(nn.Module):
    """Each pixel for itself."""

    def forward(self, images: Tensor) -> Tensor:
        return torch.cat([-images, images**3], 1)


@pytest.mark.parametrize("front", [False, True], ids=["plain", "front"])
def test_an_image_is_normalised_by_itself_and_not_by_its_tiles(front: bool) -> None:
    """So a network whose every pixel is for itself answers the same in tiles."""
    images = torch.rand(2, 1, 21, 26, generator=torch.Generator().manual_seed(0)) ** 2
    images[..., :8, :8] = 0.3  # a tile of one value, which zscore would make zero
    weights = torch.randn(2, 2, 21, 26, generator=torch.Generator().manual_seed(1))

    def asked(tiled: bool) -> tuple[Tensor, Tensor]:
        found = adapt_network(Gain(), [(1, 8, 8)], Normalization(per_image=True), classes=2).module
        network = Fronted(nn.Tanh(), found) if front else found
        leaf = images.clone().requires_grad_()
        answer = (in_tiles(network, Tiles((8,)))[0] if tiled else network)(leaf)
        (gradient,) = torch.autograd.grad((answer * weights).sum(), leaf)
        return answer.detach(), gradient

    for tiled, whole in zip(asked(True), asked(False), strict=True):
        torch.testing.assert_close(tiled, whole, rtol=1e-4, atol=1e-4)


def test_what_is_done_to_whole_images_is_part_of_what_a_tiled_network_is() -> None:
    plain = adapt_network(Gain(), [(1, 8, 8)], classes=2).module
    tiles = Tiles((8,))
    assert in_tiles(plain, tiles)[1] == str(tiles)
    assert in_tiles(Fronted(BitDepth(), plain), tiles)[1] == f"{tiles} of what bitdepth gives"
    scaled = adapt_network(Gain(), [(1, 8, 8)], Normalization(per_image=True), classes=2).module
    with pytest.raises(UserError, match=r"by the image's own mean .*; leave --tiles out"):
        in_tiles(nn.Sequential(scaled), tiles)
