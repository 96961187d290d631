"""Weights files as what they hold. Nothing is ever unpickled: a weights file cannot run code."""

from __future__ import annotations

import io
import pickle
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from segbench.atomic import read_regular, shown
from segbench.errors import UserError
from segbench.training.inert import Checkpoint, read_inert
from segbench.training.records import RecordsError, check_records


def parse_safetensors(content: bytes, path: Path) -> dict[str, Tensor]:
    """The named tensors in the content of a file.

    Raises:
        UserError: it is truncated, or of another format.
    """
    try:
        return load(content)
    except (SafetensorError, ValueError) as error:
        raise UserError(
            f"weights {shown(path)} are not a complete safetensors file ({error}); "
            "they were not unpickled; give the original file"
        ) from None


def load_tensors(path: Path) -> Any:
    """What ``torch.save`` put into a file, on the CPU; nothing is unpickled that could run code.

    Raises:
        OSError: the file cannot be read, or is none.
        Exception: anything at all, where the file is not of ``torch.save``.
    """
    return parse_tensors(read_regular(path))


def parse_tensors(content: bytes) -> Any:
    """What ``torch.save`` made these bytes of; see ``load_tensors``."""
    file = io.BytesIO(content)
    with warnings.catch_warnings():
        # torch warns of TorchScript archives, and then refuses them.
        warnings.simplefilter("ignore")
        check_records(file)
        return torch.load(file, map_location="cpu", weights_only=True)


def read_torch(path: Path) -> tuple[Any, Checkpoint | None]:
    """As ``parse_torch``, of a file.

    Raises:
        OSError: it cannot be read.
        UserError: it is none of torch.save.
    """
    return parse_torch(read_regular(path), path)


def parse_torch(content: bytes, path: Path) -> tuple[Any, Checkpoint | None]:
    """What a file holds: as torch reads tensors, or else with placeholders for all that is none.

    Raises:
        UserError: it is none of torch.save.
    """
    try:
        return parse_tensors(content), None
    except pickle.UnpicklingError as error:
        refusal: Exception = error
    except Exception as error:  # torch's reader fails in any way at all on foreign bytes
        reason = str(error) if isinstance(error, RecordsError) else type(error).__name__
        raise UserError(
            f"weights {shown(path)} are not a file of torch.save ({reason}) and were not "
            "unpickled; give a state dict as .safetensors, .pt or .pth"
        ) from error
    try:
        checkpoint = read_inert(content)
    except Exception as error:
        raise UserError(
            f"weights {shown(path)} are not a file of torch.save ({type(error).__name__}) and were "
            "not unpickled, since that can run code; give a state dict as .safetensors, .pt or .pth"
        ) from refusal
    return checkpoint.content, checkpoint
