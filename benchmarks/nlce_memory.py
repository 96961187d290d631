"""The memory of NLCE's forward against the naive formula, and how both grow with positions.

    python benchmarks/nlce_memory.py
    python benchmarks/nlce_memory.py --size 256,512,1024 --skip-naive

At C2 of a 512² image a ResNet-50 has 256 channels at 128² = 16384 positions, and NLCE 128 inner
channels. The naive formula stores the (N, N) affinity and its softmax; ours stores neither. Each
number is the peak of a process of its own: its highest resident memory less that before the module
runs, features and weights in place. fp32, batch 1, without gradients, on one thread (each thread
has buffers of its own); on Linux. The answers are compared on a small input by
tests/models/test_nlce.py, values and gradients.
"""

from __future__ import annotations

import json
import subprocess
import sys

import click
import torch
from measured import MIB, held_memory, peak_memory
from rich.console import Console
from rich.table import Table
from torch import Tensor

from segbench_models.nlce import NLCE, NonLocal

CHANNELS = 256
STRIDE = 4


@click.command()
@click.option("--size", default="256,512", show_default=True, help="Images' sides, in pixels.")
@click.option("--skip-naive", is_flag=True, help="Where its memory is more than there is.")
@click.option("--worker", hidden=True, help="Measure one contender and print it.")
def main(size: str, skip_naive: bool, worker: str | None) -> None:
    """Measure every size and contender in a fresh process, and print them side by side."""
    sides = [int(part) for part in size.split(",")]
    if worker:
        click.echo(json.dumps(_measure(worker, sides[0])))
        return
    contenders = ["ours"] if skip_naive else ["ours", "naive"]
    table = Table(title=f"Peak of NLCE's forward over its features, {CHANNELS} channels, MiB")
    for column in ("image", "positions", "features", *contenders, "an N x N affinity"):
        table.add_column(column, justify="right")
    for side in sides:
        positions = (side // STRIDE) ** 2
        peaks = [_ask(contender, side) for contender in contenders]
        table.add_row(
            f"{side}²",
            f"{positions}",
            f"{4 * CHANNELS * positions / MIB:.0f}",
            *(f"{peak:.0f}" for peak in peaks),
            f"{4 * positions**2 / MIB:.0f}",
        )
    Console().print(table)


def _ask(contender: str, side: int) -> float:
    """The measurement of a process that does nothing else."""
    command = [sys.executable, __file__, "--worker", contender, "--size", str(side)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return float(json.loads(done.stdout))


def _measure(contender: str, side: int) -> float:
    """MiB that one forward adds to the process's peak resident memory."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    nlce = NLCE(CHANNELS).eval()
    if contender == "naive":
        nlce.nonlocal_ = Naive(nlce.nonlocal_)
    features = torch.rand(1, CHANNELS, side // STRIDE, side // STRIDE)
    with torch.no_grad():
        nlce(features[..., :8, :8])  # what the first call alone needs is not the formula's
        before = held_memory()
        nlce(features)
    return (peak_memory() - before) / MIB


class Naive(torch.nn.Module):
    """The non-local block with its affinity written out."""

    def __init__(self, block: NonLocal) -> None:
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """X + W softmax(theta' phi) g."""
        block = self.block
        theta, phi, g = (conv(x).flatten(2) for conv in (block.theta, block.phi, block.g))
        affinity = torch.softmax(theta.transpose(1, 2) @ phi, dim=-1)  # (B, N, N)
        y = g @ affinity.transpose(1, 2)
        return x + block.w(y.unflatten(2, x.shape[2:]))


if __name__ == "__main__":
    main()
