"""Transfer: images that fool one network, shown to another (Papernot et al., arXiv 1605.07277)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from segbench.api import BudgetKind, TransferAttack
from segbench.errors import UserError
from segbench.plugins.attack import NORMS, load_attack


@dataclass(frozen=True)
class Transfer:
    """The attacker has a network of their own and not the one that is attacked.

    The images are made once, against the source, and kept in the workspace: every target is scored
    on the very same ones. The source on its own images is the diagonal of the transfer matrix.

    Attributes:
        source: a checkpoint of the workspace, by its name or by a spec that only it has.
        attack: the spec of the attack on the source; its budget is a norm.
    """

    source: str = ""
    attack: str = "pgd"

    needs: ClassVar[Literal["labels"]] = "labels"

    def __post_init__(self) -> None:
        if not self.source:
            raise UserError('transfer needs a source, for example transfer:source="unet:width=16"')
        inner = load_attack(self.attack).attack
        if isinstance(inner, TransferAttack) or inner.budget_kind not in NORMS:
            raise UserError(
                f"transfer: attack={self.attack!r} has no budget in a norm; "
                "expected one that has, such as pgd"
            )

    @property
    def budget_kind(self) -> BudgetKind:
        """That of the attack on the source."""
        return load_attack(self.attack).attack.budget_kind

    @property
    def target(self) -> str | None:
        """That of the attack on the source."""
        target: str | None = getattr(load_attack(self.attack).attack, "target", None)
        return target
