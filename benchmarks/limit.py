"""How close a gradient step comes to the machine: its FLOPs over the measured matrix rate.

    python benchmarks/limit.py
    python benchmarks/limit.py --network nlcen --size 224

A step is what an attack asks for: forward and input gradient of one batch, through the engine. Its
FLOPs are counted on the original network, two for each multiply-add, the fp32 first layer among
them. The rates are the best of several large matrix products and convolutions in the same type.
Peak memory is what preparing, probing and a step took on top of network and images, also as a
multiple of the activations that autograd keeps for the batch.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from statistics import median

import click
import torch
from measured import held_memory, peak_memory
from rich.console import Console
from rich.table import Table
from script import Script
from setting import Setting
from torch import Tensor
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from segbench.api import Goal
from segbench.engine.batching import choose_batch_size
from segbench.engine.memory import keep_freed_memory
from segbench.engine.network import Network
from segbench.engine.objective import NetworkObjective
from segbench.engine.precision import (
    Policy,
    choose_device,
    choose_precision,
    device_name,
    require_ieee_fp32,
)

console = Console(highlight=False, width=120)
GROUPS = {  # by names of operators, and of the kernels that an accelerator's step consists of
    "convolution": ("conv", "fprop", "dgrad", "implicit_gemm", "cudnn"),
    "attention": ("scaled_dot_product", "fmha", "flash"),
    "matrix product": ("aten::mm", "aten::bmm", "aten::addmm", "aten::baddbmm", "gemm"),
    "pooling and resizing": ("pool", "upsample"),
    "copies and conversions": ("aten::copy_", "aten::cat", "aten::fill_", "aten::zero_"),
    "normalisation": ("norm",),
    "activation": ("threshold", "clamp", "relu"),
}


def attention_flops(query: list[int], key: list[int], *_: object, **__: object) -> int:
    """Two products of (N, C) and (C, N) sizes."""
    return 4 * query[0] * query[1] * query[2] * key[2] * query[3]


def attention_backward_flops(_: object, *shapes: list[int], **__: object) -> int:
    """Five products: the affinity again, and one for each gradient."""
    return attention_flops(*shapes) * 5 // 2


# torch counts attention on accelerators only.
aten = torch.ops.aten
ATTENTION = {
    aten._scaled_dot_product_flash_attention_for_cpu: attention_flops,
    aten._scaled_dot_product_flash_attention_for_cpu_backward: attention_backward_flops,
}


def cross_entropy(logits: Tensor, goal: Goal) -> Tensor:
    """The loss of PGD: summed over the pixels of each case."""
    return F.cross_entropy(logits, goal.labels, reduction="none").flatten(1).sum(1)


def timed(call: Callable[[], object], device: torch.device, repeats: int) -> list[float]:
    """Seconds of each of so many calls, after two to warm up."""
    seconds = []
    for _ in range(repeats + 2):
        start = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        seconds.append(time.perf_counter() - start)
    return seconds[2:]


def rates(device: torch.device, dtype: torch.dtype) -> dict[str, float]:
    """FLOP/s of a large matrix product and of a large 3x3 convolution, the best of ten."""
    n = 2048 if device.type == "cpu" else 8192
    a, b = (torch.randn(n, n, device=device).to(dtype) for _ in range(2))
    images = torch.randn(4, 256, 56, 56, device=device).to(dtype)
    images = images.contiguous(memory_format=torch.channels_last)
    weight = torch.randn(256, 256, 3, 3, device=device).to(dtype)
    weight = weight.contiguous(memory_format=torch.channels_last)
    convolution = 2 * 9 * 256 * images.numel()
    return {
        "matrix": 2 * n**3 / min(timed(lambda: a @ b, device, 10)),
        "convolution": convolution
        / min(timed(lambda: F.conv2d(images, weight, padding=1), device, 10)),
    }


def held_bytes(device: torch.device) -> int:
    """What the process holds now; from here on the peak counts."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
        return torch.cuda.memory_allocated(device)
    return held_memory()


def peak_bytes(device: torch.device) -> int:
    """The most that the process held since."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    return peak_memory()


def step_flops(network: Network, images: Tensor, goal: Goal) -> int:
    """FLOPs of forward and input gradient of the original network."""
    leaf = images.clone().requires_grad_()
    with FlopCounterMode(display=False, custom_mapping=ATTENTION) as counter:
        inputs = leaf.clone()
        loss = cross_entropy(network.canonical(network.module(inputs), inputs), goal)
        torch.autograd.grad(loss.sum(), leaf)
    return counter.get_total_flops()


def where_time_goes(step: Callable[[], object], device: torch.device) -> dict[str, float]:
    """Share of the profiled operator time by kind of operator."""
    kinds = [ProfilerActivity.CPU]
    if device.type == "cuda":
        kinds.append(ProfilerActivity.CUDA)
    with profile(activities=kinds) as run:
        step()
    shares = dict.fromkeys([*GROUPS, "everything else"], 0.0)
    for event in run.key_averages():
        own = event.self_device_time_total if device.type == "cuda" else event.self_cpu_time_total
        kind = next((k for k, words in GROUPS.items() if any(w in event.key for w in words)), None)
        shares[kind or "everything else"] += own
    total = sum(shares.values())
    return {kind: share / total for kind, share in shares.items() if share > 0.002 * total}


def show(setting: Setting, policy: Policy, batch: int | None, repeats: int, table: Table) -> None:
    """A row of the table, and where the time of its step goes."""
    data, device = setting.data(), choose_device(setting.device)
    precision = choose_precision(device, policy)
    module = setting.module(data)
    keep_freed_memory()
    require_ieee_fp32()
    network = Network("network", module, len(data.dataset.class_names), device, precision)
    images, truth = setting.tensors(data)
    before = held_bytes(device)
    network.prepare(images[:2])
    size = batch or choose_batch_size(network, images[:1])
    images, truth = (
        t.repeat(-(-size // len(t)), *[1] * (t.dim() - 1))[:size] for t in (images, truth)
    )
    goal, objective = Goal(truth, truth), NetworkObjective(network)

    def step() -> object:
        return objective.value_and_grad(images, cross_entropy, goal)

    kept = size * network.saved_bytes(images[:1])
    step()
    peak = peak_bytes(device) - before
    flops = step_flops(network, images, goal)
    seconds = median(timed(step, device, repeats))
    rate = rates(
        device, torch.bfloat16 if network.copies.fast.name.startswith("bf16") else torch.float32
    )
    table.add_row(
        network.copies.fast.name,
        str(size),
        # What the first row's run freed serves the second one's, which then seems to need nothing.
        "" if table.row_count else f"{peak / 2**20:.0f} ({peak / kept:.2f})",
        f"{1e3 * seconds / size:.3g}",
        f"{flops / size / 1e9:.1f}",
        f"{flops / seconds / 1e9:.0f}",
        *[f"{r / 1e9:.0f} ({flops / seconds / r:.0%})" for r in rate.values()],
    )
    shares = where_time_goes(step, device)
    listed = ", ".join(f"{k} {v:.1%}" for k, v in sorted(shares.items(), key=lambda s: -s[1]))
    console.print(f"{network.copies.fast.name}: {listed}")


@click.command(cls=Script, help=__doc__)
@click.option("--network", default="unet32", show_default=True)
@click.option("--dataset", default="phantom-cxr", show_default=True, help="Or volumes (3-D).")
@click.option("--size", default=256, show_default=True)
@click.option("--batch", type=int, help="[default: as an attack would choose]")
@click.option("--repeats", default=7, show_default=True)
@click.option("--device", default="cpu", show_default=True)
@click.option("--precision", "policies", multiple=True, type=click.Choice(["auto", "fp32"]),
              default=("auto", "fp32"), show_default=True)  # fmt: skip
def main(
    policies: tuple[Policy, ...],
    batch: int | None,
    repeats: int,
    network: str,
    dataset: str,
    size: int,
    device: str,
) -> None:
    """One row per precision."""
    setting = Setting(network=network, dataset=dataset, size=size, device=device)
    table = Table(
        title=f"{network}, {dataset} at {size}, {torch.get_num_threads()} threads, "
        f"{device_name(choose_device(device))}, load {os.getloadavg()[0]:.1f}",
        title_justify="left",
    )
    for heading in ("gradients in", "batch", "peak MiB (/ kept)", "ms / step / image",
                    "GFLOP / step / image", "GFLOP/s", "matrix GFLOP/s (share)",
                    "convolution GFLOP/s (share)"):  # fmt: skip
        table.add_column(heading, justify="right")
    for policy in policies:
        show(setting, policy, batch, repeats, table)
    console.print(table)


if __name__ == "__main__":
    main()
