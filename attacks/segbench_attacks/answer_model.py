"""A small network that learns what another one answers to images near one of a case's."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from segbench.api import Noise

PLACES = 4096  # at most, of the grid on which it learns; images with more are averaged down to it
WIDTH, LEVELS = 16, 4
RATE = 3e-3  # Adam's
_SLOPE = 0.1  # of the leaky ReLU
_TINY = 1e-6
_WEIGHTS, _PICKS = 2**21, 2**22  # draws of their own


class AnswerModel:
    """A U-Net of sixteen channels for one case, from changes of its image to changes of answers.

    It sees the change, the image and the network's answer to it, and says by how much the answer
    changes: nothing for no change. Its weights are drawn from the case's noise, and no generator
    but that is drawn from.

    Args:
        images: the clean image (1, C, *spatial).
        logits: the network's answer to it (1, K, *spatial), or (1, 2, S, *spatial) of structures.
        unit: the size of a change in a pixel that is seen as 1.
        noise: that of the one case.
        draws: where this model's draws of it begin.
    """

    def __init__(
        self, images: Tensor, logits: Tensor, unit: float, noise: Noise, draws: int = 0
    ) -> None:
        self.images, self.logits, self.unit = images, logits, unit
        self.noise, self.draws = noise, draws
        spatial, answer = images.shape[2:], self._channels(logits)
        self.block = next(
            block for block in range(1, max(spatial) + 1) if _places(spatial, block) <= PLACES
        )
        grid = [math.ceil(length / self.block) for length in spatial]
        self.levels = min(LEVELS, 1 + int(math.log2(min(grid))))
        seen = torch.cat([images - 0.5, (answer / _spread(answer)).clamp(-3, 3)], 1)
        self.seen = coarser(seen, self.block)
        self.scale = _spread(answer)
        self.weights = self._drawn(images.shape[1] + seen.shape[1], answer.shape[1])
        leaves = [tensor for pair in self.weights for tensor in pair]
        self.optimiser = torch.optim.Adam(leaves, RATE)
        self.known: list[tuple[Tensor, Tensor]] = []  # changes of image and answer, on the grid
        self.taken = 0  # steps

    def tell(self, images: Tensor, logits: Tensor) -> None:
        """The network's answer to an image (1, C, *spatial), in the shape of the clean one's."""
        answer = self._channels(logits) - self._channels(self.logits)
        self.known.append((self._change(images), coarser(answer, self.block)))

    def fit(self, steps: int) -> None:
        """So many steps on two of the answers each: the newest, and one that is drawn."""
        self.scale = _spread(torch.cat([answer for _, answer in self.known]))
        for _ in range(steps):
            drawn = int(self.noise.uniform(self.draws + _PICKS + self.taken, ()) * len(self.known))
            pair = self.known[drawn], self.known[-1]
            changes, answers = (torch.cat(some) for some in zip(*pair, strict=True))
            with torch.enable_grad():
                loss = F.smooth_l1_loss(self._answers(changes), answers / self.scale)
                self.optimiser.zero_grad()
                torch.autograd.backward(loss)
            self.optimiser.step()
            self.taken += 1

    def __call__(self, images: Tensor) -> Tensor:
        """What it takes the network to answer: logits of the images (B, C, *spatial)."""
        changes = finer(self._answers(self._change(images)), self.block, images.shape[2:])
        return self.logits + self.scale * changes.reshape(-1, *self.logits.shape[1:])

    def _change(self, images: Tensor) -> Tensor:
        """That of the image (B, C, *grid), in units."""
        return coarser((images - self.images) / self.unit, self.block)

    def _channels(self, logits: Tensor) -> Tensor:
        """(1, channels, *spatial), finite."""
        dims = self.images.dim() - 2
        return logits.flatten(1, -dims - 1).nan_to_num().clamp(-1e4, 1e4)

    def _answers(self, changes: Tensor) -> Tensor:
        """Changes of the answer (B, channels, *grid) in units of ``scale``, by those of images."""
        seen = self.seen.expand(len(changes), *self.seen.shape[1:])
        nothing = torch.cat([torch.zeros_like(changes[:1]), self.seen], 1)
        answers = self._network(torch.cat([torch.cat([changes, seen], 1), nothing]))
        return answers[:-1] - answers[-1:]

    def _network(self, x: Tensor) -> Tensor:
        convolve = (F.conv1d, F.conv2d, F.conv3d)[x.dim() - 3]

        def layer(x: Tensor) -> Tensor:
            weight, bias = next(layers)
            return convolve(x, weight, bias, padding=weight.shape[-1] // 2)

        layers, kept = iter(self.weights), []
        for level in range(self.levels):
            x = F.leaky_relu(layer(coarser(x, 2) if level else x), _SLOPE)
            x = x + F.leaky_relu(layer(x), _SLOPE)
            kept.append(x)
        for fine in reversed(kept[:-1]):
            x = torch.cat([fine, finer(x, 2, fine.shape[2:])], 1)
            x = F.leaky_relu(layer(x), _SLOPE)
        return layer(x)

    def _drawn(self, first: int, last: int) -> list[tuple[Tensor, Tensor]]:
        """Weights and biases of all layers, with gradient."""
        dims = self.images.dim() - 2
        ways = [(first, WIDTH)] + [(WIDTH, WIDTH)] * (2 * self.levels - 1)
        ways += [(2 * WIDTH, WIDTH)] * (self.levels - 1)
        shapes = [(after, before, *[3] * dims) for before, after in ways]
        shapes.append((last, WIDTH, *[1] * dims))
        drawn = []
        for number, shape in enumerate(shapes):
            weight = self.noise.normal(self.draws + _WEIGHTS + number, shape)[0]
            weight /= math.sqrt(3 * math.prod(shape[1:]))
            drawn.append((weight.requires_grad_(), weight.new_zeros(shape[0]).requires_grad_()))
        return drawn


def coarser(values: Tensor, block: int) -> Tensor:
    """The means (B, C, *grid) over blocks of (B, C, *spatial); beyond the edge lie zeros."""
    if block == 1:
        return values
    spatial = values.shape[2:]
    room = [(0, -length % block) for length in reversed(spatial)]
    values = F.pad(values, [end for ends in room for end in ends])
    for axis in range(2, values.dim()):
        blocks = values.shape[axis] // block
        shape = (*values.shape[:axis], blocks, block, *values.shape[axis + 1 :])
        values = values.reshape(shape).mean(axis + 1)
    return values


def finer(values: Tensor, block: int, spatial: Sequence[int]) -> Tensor:
    """(B, C, *spatial): each of (B, C, *grid) as a block, as far as there is room.

    As is ``coarser``, of operations whose gradients are the same in every run on any device.
    """
    for axis, length in enumerate(spatial, 2):
        blocks = values.unsqueeze(axis + 1)
        shape = [block if k == axis + 1 else n for k, n in enumerate(blocks.shape)]
        values = blocks.expand(shape).flatten(axis, axis + 1).narrow(axis, 0, length)
    return values


def _spread(values: Tensor) -> float:
    return max(_TINY, float(values.std()))


def _places(spatial: Sequence[int], block: int) -> int:
    return math.prod(math.ceil(length / block) for length in spatial)
