"""Peak memory of an attack on growing volumes and images, whole and by tiles.

    python benchmarks/tile_memory.py 64x64x64 128x128x128 --tiles 64
    python benchmarks/tile_memory.py 512x512x300 --tiles 128 --overlap 0.25 --only tiled
    python benchmarks/tile_memory.py 3000x4000 --tiles 512 --only tiled

With `--boundary` its boundary metrics too, of predictions that are noise: nothing has more surface.
Each line is a command of its own: `segbench attack` by PGD, one step unless said, on one generated
case (a volume, or a picture in colour), of a network with two layers of 16 channels unless said.
Its peak is the resident memory that the system has counted.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np
from measured import cost_of

NET = """
import torch

def build(in_channels, num_classes, spatial_dims):
    conv = torch.nn.Conv2d if spatial_dims == 2 else torch.nn.Conv3d
    torch.manual_seed(0)
    return torch.nn.Sequential(conv(in_channels, WIDTH, 3, padding=1), torch.nn.ReLU(),
                               conv(WIDTH, num_classes, 3, padding=1))
"""


def write_case(folder: Path, sides: tuple[int, ...]) -> None:
    """One bright ball in noise, as NIfTI of 16 bits, or as a PNG in colour."""
    random = np.random.default_rng(0)
    axes = np.ogrid[tuple(slice(side) for side in sides)]
    away = sum(((axis - side / 2) / side) ** 2 for axis, side in zip(axes, sides, strict=True))
    ball = away < 0.06
    values = (ball * np.uint16(120) + random.integers(0, 90, sides, dtype=np.uint8)).astype(
        np.int16
    )
    for name, array in (("images", values), ("masks", ball.astype(np.uint8))):
        (folder / name).mkdir(parents=True)
        if len(sides) == 2:
            from PIL import Image

            pixels = array.astype(np.uint8)
            shown = np.stack([pixels, 255 - pixels, pixels // 2], -1)
            picture = Image.fromarray(pixels * 255 if name == "masks" else shown)
            picture.save(folder / name / "case.png")
        else:
            import nibabel

            nibabel.save(nibabel.Nifti1Image(array, np.eye(4)), folder / name / "case.nii")


def measure(
    sides: tuple[int, ...], tiles: str, overlap: float, steps: int, width: int, boundary: bool
) -> tuple[float, float]:
    """GiB at the peak, and seconds, of one attack."""
    with tempfile.TemporaryDirectory() as text:
        folder = Path(text)
        write_case(folder / "data", sides)
        (folder / "net.py").write_text(NET.replace("WIDTH", str(width)))
        mode = ":mode=volumes,window=0..210" if len(sides) == 3 else ""
        command = [sys.executable, "-m", "segbench", "attack", "-m", "net.py:build",
                   "-a", f"pgd:steps={steps}", "--eps", "4/255", "--dataset", f"folder{mode}",
                   "--data-root", "data", "--batch-size", "1"]  # fmt: skip
        if tiles:
            command += ["--tiles", tiles, "--overlap", str(overlap)]
        if boundary:
            command += ["--boundary"]
        cost = cost_of(command, folder, {"SEGBENCH_CONFIG_DIR": text})
    return cost.memory / 1024, cost.wall


def main() -> None:
    """Print a line for each size, whole and by tiles."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("sizes", nargs="+", help="such as 128x128x128 or 3000x4000")
    parser.add_argument("--tiles", default="64")
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--steps", type=int, default=1)
    parser.add_argument("--width", type=int, default=16, help="channels of the network")
    parser.add_argument("--boundary", action="store_true", help="measure hd95 and nsd as well")
    parser.add_argument("--only", choices=["tiled", "whole"])
    asked = parser.parse_args()
    settings = asked.overlap, asked.steps, asked.width, asked.boundary
    print(f"{'size':>14} {'how':>12} {'peak GiB':>9} {'seconds':>8}")
    for size in asked.sizes:
        for how, tiles in (("whole", ""), ("tiled", asked.tiles)):
            if asked.only in (None, how):
                peak, seconds = measure(tuple(map(int, size.split("x"))), tiles, *settings)
                print(f"{size:>14} {tiles or 'whole':>12} {peak:>9.2f} {seconds:>8.0f}", flush=True)


if __name__ == "__main__":
    main()
