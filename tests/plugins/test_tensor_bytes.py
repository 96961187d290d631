"""A tensor is known by its numbers, however it lies in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from segbench.networks.hashes import state_hash
from segbench.plugins.bytecode import describe_numbers
from segbench.plugins.tensor_bytes import tensor_bytes
from segbench.store.tensors import load_tensors, save_tensors
from segbench.training.progress import _checksum

DENSE = torch.tensor([[0.0, 1.5], [-2.0, 0.0]])
TENSORS: dict[str, Tensor] = {
    "plain": DENSE,
    "turned": DENSE.T.contiguous().T,
    "part of another": torch.stack([DENSE, DENSE], -1)[..., 1],
    "with a gradient": DENSE.clone().requires_grad_(),
    "sparse": DENSE.to_sparse(),
    "conjugate": torch.complex(DENSE, DENSE).conj(),
    "negated": torch.complex(DENSE, -DENSE).conj().imag,
    "one number": DENSE[0, 1],
    "none, of numpy": torch.from_numpy(np.array([], np.float32)),
    "none, expanded": torch.empty(1, 0).expand(3, 0),
    "none along one axis": torch.empty(2, 0, 3),
    "truths": DENSE > 0,
}


def as_numpy(tensor: Tensor) -> bytes:
    array = tensor.detach().to_dense() if tensor.is_sparse else tensor.detach()
    return array.resolve_conj().resolve_neg().numpy().tobytes()


@pytest.mark.parametrize("name", TENSORS)
def test_its_bytes_are_those_of_its_numbers_in_order(name: str) -> None:
    assert tensor_bytes(TENSORS[name]) == as_numpy(TENSORS[name])


def test_types_that_numpy_lacks_have_bytes_too() -> None:
    assert tensor_bytes(torch.tensor([1.0]).bfloat16()) == b"\x80?"
    assert len(tensor_bytes(torch.ones(3).to(torch.float8_e4m3fn))) == 3


@pytest.mark.parametrize("name", [name for name in TENSORS if name.startswith("none")])
def test_what_holds_no_numbers_is_known_everywhere(name: str, tmp_path: Path) -> None:
    """A network, a value beside one, the state of a training, a file of tensors."""
    tensor = TENSORS[name]
    network: Any = nn.Module()
    network.register_buffer("region", tensor)
    other: Any = nn.Module()
    other.register_buffer("region", torch.zeros(1))
    assert state_hash(network) != state_hash(other)
    assert describe_numbers(tensor) != describe_numbers(torch.empty(0, 7))
    assert _checksum({"a": tensor}) != _checksum({"a": torch.empty(0, 7)})
    save_tensors(tmp_path / "t.safetensors", {"a": tensor.contiguous()}, {})
    found = load_tensors(tmp_path / "t.safetensors")
    assert found is not None
    assert found[0]["a"].shape == tensor.shape
