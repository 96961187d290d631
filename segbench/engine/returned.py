"""What an attack returns, checked where the engine first has it in its hands."""

from __future__ import annotations

from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from segbench.api import Plan, State
from segbench.errors import ContractError


def check_plan(plan: Any) -> Plan:
    """The plan, if it is one.

    Raises:
        ContractError: it is none, or has fewer than no steps or one restart.
    """
    if not isinstance(plan, Plan):
        raise ContractError(f"plan returned a {type(plan).__name__}; expected a segbench.api.Plan")
    if plan.steps < 0 or plan.restarts < 1:
        raise ContractError(f"plan returned {plan}; expected no fewer than 0 steps and 1 restart")
    return plan


def check_images(found: Any, images: Tensor, member: str) -> Tensor:
    """What ``member`` made of ``images`` (B, C, *spatial), if it is as many images like them.

    Raises:
        ContractError: it is no tensor, or one of another shape, type or device.
    """
    if not isinstance(found, Tensor):
        raise ContractError(f"{member} returned a {type(found).__name__}; expected a Tensor")
    got = (tuple(found.shape), found.dtype, found.device)
    expected = (tuple(images.shape), images.dtype, images.device)
    if got != expected:
        raise ContractError(
            f"{member} returned images of {_described(*got)}; expected {_described(*expected)}"
        )
    return found


def check_displacement(moves: Any, images: Tensor) -> None:
    """Refuse what is not a finite displacement of every pixel of ``images`` (B, C, *spatial).

    Raises:
        ContractError: it is no tensor, has another shape or type, or is not finite.
    """
    expected = (len(images), images.dim() - 2, *images.shape[2:])
    if not isinstance(moves, Tensor):
        raise ContractError(f"warp returned a {type(moves).__name__}; expected a Tensor")
    if moves.shape != expected or moves.dtype != images.dtype:
        raise ContractError(
            f"warp returned {_described(tuple(moves.shape), moves.dtype, moves.device)}; expected "
            f"a displacement {_described(expected, images.dtype, images.device)}"
        )
    if not moves.isfinite().all():
        raise ContractError("warp returned a displacement that is not finite")


def check_state(state: Any, images: Tensor, member: str) -> State:
    """The state, if its images are like ``images`` and the case is the first axis of its tensors.

    Raises:
        ContractError: it is no state, or a field of it does not fit.
    """
    if not (isinstance(state, State) and is_dataclass(state)):
        raise ContractError(
            f"{member} returned a {type(state).__name__}; expected a segbench.api.State"
        )
    check_images(state.images, images, member)
    for f in fields(state):
        value = getattr(state, f.name)
        if isinstance(value, Tensor) and value.shape[:1] != images.shape[:1]:
            raise ContractError(
                f"{member} returned a State whose {f.name} is {tuple(value.shape)}; "
                f"expected the case as its first axis, ({len(images)}, ...)"
            )
    return state


def check_loss(loss: Tensor, cases: int) -> None:
    """Refuse a loss that is not one number per case.

    Raises:
        ContractError: its shape is not (B,).
    """
    if loss.shape != (cases,):
        raise ContractError(
            f"loss returned {tuple(loss.shape)}; expected one number per case, ({cases},)"
        )


def _described(shape: tuple[int, ...], dtype: object, device: object) -> str:
    return f"{shape} {str(dtype).removeprefix('torch.')} on {device}"
