"""A network asked tile by tile, but for what it does to an image as a whole.

An image's own mean and deviation are not those of a tile, and a front such as JPEG's blocks is met
by the image before anybody cuts it. Both come first, and what they give is cut into tiles.
"""

from __future__ import annotations

from torch import nn

from segbench.errors import UserError
from segbench.networks.fronted import Fronted
from segbench.networks.own_network import OwnNetwork, Scale
from segbench.networks.tiling import TiledNetwork, Tiles


def in_tiles(network: nn.Module, tiles: Tiles) -> tuple[TiledNetwork, str]:
    """The network in tiles, and what that adds to its identity.

    Raises:
        UserError: it looks at whole images somewhere within.
    """
    steps, inner = _taken_off(network)
    if any(isinstance(part, Scale) and part.per_image for part in inner.modules()):
        raise UserError(
            "one of its networks is given every image by the image's own mean and deviation "
            "(--normalize zscore), which a tile has not; leave --tiles out"
        )
    said = f"{tiles} of what {' and '.join(_name(step) for step in steps)} gives" if steps else ""
    return TiledNetwork(inner, tiles, nn.Sequential(*steps)), said or str(tiles)


def _taken_off(network: nn.Module) -> tuple[list[nn.Module], nn.Module]:
    """What is to be done to whole images, in order, and the network that is left."""
    if type(network) is Fronted:
        steps, inner = _taken_off(network.network)
        return [network.front, *steps], inner
    if isinstance(network, OwnNetwork):
        scale = network.scale
        if isinstance(scale, Scale) and scale.per_image:
            network.scale = nn.Identity()
            return [scale], network
    return [], network


def _name(step: nn.Module) -> str:
    return "zscore" if isinstance(step, Scale) else type(step).__name__.lower()
