"""Where an adversarial image must lie: ball around the clean image, box [0, 1], and region."""

from __future__ import annotations

from fractions import Fraction

import torch
from torch import Tensor

from segbench.api import Budget
from segbench.errors import MachineError

_RELATIVE = 1e-6
_ORDERS = {"linf": torch.inf, "l2": 2, "l1": 1}
_BISECTIONS = 40
_ROUNDING = 2.0**-24  # half a unit in the last place of an fp32 pixel near 1


def flat_norm(values: Tensor, order: float) -> Tensor:
    """The norm of each case (B,) of (B, ...)."""
    flat = values.flatten(1)
    if order == torch.inf:
        # On a CPU each of the two takes a tenth of aminmax's, vector_norm's or abs's time.
        return torch.maximum(flat.amax(1), -flat.amin(1))
    norms: Tensor = torch.linalg.vector_norm(flat, ord=order, dim=1)
    return norms


def per_case(values: Tensor, like: Tensor) -> Tensor:
    """(B,) reshaped to (B, 1, ..., 1), to multiply ``like`` (B, ...)."""
    return values.reshape(-1, *[1] * (like.dim() - 1))


def scaled(budget: Budget, share: float) -> Budget:
    """The budget times a share; the very same one for 1."""
    return budget if share == 1 else Budget(budget.kind, budget.value * Fraction(share))


def confined(images: Tensor, clean: Tensor, region: Tensor | None) -> Tensor:
    """``images`` where they may change, ``clean`` elsewhere, to the bit; both (B, C, *spatial).

    ``region`` is bool (B, 1, *spatial), None for everywhere.
    """
    return images if region is None else torch.where(region, images, clean)


def project(images: Tensor, clean: Tensor, budget: Budget, region: Tensor | None = None) -> Tensor:
    """The iterate brought back into the ball, the box and the region; both (B, C, *spatial).

    First what may not change is the clean image's again, which is the projection onto the region;
    the rest keeps it so.

    L-infinity and the box are projected exactly. L2 is projected radially and then clipped to the
    box, which cannot leave the ball because the clean image lies in the box. L1 is projected
    exactly onto ball and box together. Budgets of other kinds have no ball, only the box.
    """
    eps, images = budget.eps, confined(images, clean, region)
    if budget.kind == "linf":
        low, high = (clean - eps).clamp_min(0), (clean + eps).clamp_max(1)
        return torch.minimum(torch.maximum(images, low), high)
    if budget.kind == "l2":
        delta = images - clean
        length = flat_norm(delta, 2)
        scale = (eps / length.clamp_min(1e-30)).clamp_max(1)
        return (clean + delta * per_case(scale, delta)).clamp(0, 1)
    if budget.kind == "l1":
        return _project_l1(images, clean, eps)
    return images.clamp(0, 1)


def _project_l1(images: Tensor, clean: Tensor, eps: float) -> Tensor:
    """Every coordinate shrinks by one threshold per case, found by bisection, within the box."""
    delta = images - clean
    size = torch.minimum(delta.abs(), torch.where(delta > 0, 1 - clean, clean))
    low = torch.zeros(len(images), dtype=torch.float64, device=images.device)
    high = flat_norm(delta, torch.inf).double()
    outside = flat_norm(size.double(), 1) > eps
    for _ in range(_BISECTIONS):
        middle = (low + high) / 2
        beyond = flat_norm(_shrunk(delta, size, middle).double(), 1) > eps
        low, high = torch.where(beyond, middle, low), torch.where(beyond, high, middle)
    size = _shrunk(delta, size, torch.where(outside, high, 0.0))
    return (clean + size * delta.sign()).clamp(0, 1)


def _shrunk(delta: Tensor, room: Tensor, threshold: Tensor) -> Tensor:
    less = delta.abs() - per_case(threshold.to(delta), delta)
    return torch.minimum(less.clamp_min(0), room)


def distances(images: Tensor, clean: Tensor) -> tuple[Tensor, Tensor]:
    """The L-infinity and L2 distances (B,), in float64, of images (B, C, *spatial)."""
    delta = images.double().sub_(clean)
    return flat_norm(delta, torch.inf), flat_norm(delta, 2)


def check(
    images: Tensor,
    clean: Tensor,
    budget: Budget,
    attack: str,
    case_ids: tuple[str, ...],
    region: Tensor | None = None,
) -> None:
    """The last word, in float64: images (B, C, *spatial) lie in their ball and box.

    And, where there is a ``region`` (B, 1, *spatial), not a bit outside it has changed.

    Raises:
        MachineError: the attack broke its contract; it is named with the case and the excess.
    """
    delta = images.double().sub_(clean)
    if budget.kind in _ORDERS:
        order = _ORDERS[budget.kind]
        own = flat_norm(delta, order)
        limit = budget.eps * (1 + _RELATIVE) + _ROUNDING * delta[0].numel() ** (1 / order)
        for case, distance in zip(case_ids, own.tolist(), strict=True):
            if not distance <= limit:
                raise MachineError(
                    f"attack {attack} left its {budget.kind} ball on case {case}: "
                    f"{distance:.6g} > {budget.eps:.6g}"
                )
    if budget.kind == "area":
        shares = (delta != 0).any(1).flatten(1).double().mean(1).tolist()
        for case, share in zip(case_ids, shares, strict=True):
            if not share <= budget.eps * (1 + _RELATIVE):
                raise MachineError(
                    f"attack {attack} changed {share:.6g} of the pixels of case {case}; its area "
                    f"is {budget.eps:.6g}"
                )
    if region is not None:
        strayed = ((delta != 0) & ~region).flatten(1).any(1)
        if strayed.any():
            case = case_ids[int(strayed.nonzero()[0])]
            raise MachineError(f"attack {attack} changed case {case} where it may not")
    flat = images.flatten(1)
    outside = ~((flat.amin(1) >= 0) & (flat.amax(1) <= 1))  # a NaN is neither
    if outside.any():
        case = case_ids[int(outside.nonzero()[0])]
        raise MachineError(f"attack {attack} left the pixel range [0, 1] on case {case}")
