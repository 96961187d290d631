"""A certificate as it is asked for, and what it is known by: randomised smoothing.

    [certify]
    sigma = [0.25, 0.5]
    tau = [0.75]
    n = 100

Every sigma is a curve of its own, and every tau a point of it, at the radius that it proves. Each
point is a statement by itself, right with probability 1 - alpha for every case. Draws are numbered:
those of a larger ``n`` begin with those of a smaller one. So they are kept and not drawn again, and
so two looks at them are two chances to be wrong, whether the second look draws anew or not: whoever
picks one of several ``n``, ``tau`` or ``sigma`` by what came out has their number times alpha.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from dataclasses import dataclass as plain
from fractions import Fraction
from itertools import product
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, Field
from pydantic.dataclasses import dataclass

from segbench.api import Budget
from segbench.errors import UserError
from segbench.evaluation.records import STRICT, Count, shown
from segbench.metrics.certificates import Correction, candidates, radius
from segbench.plugins.spec import Spec

NAME = "smoothing"
KIND: Final = "certified"
RULES = 1
"""Another number where draws, choices or tests are made in another way."""

_MOST_NOISE = 10.0  # pixel ranges; published work smooths with one at most
_GROUP = re.compile(r"\s*([^={};]+?)\s*=\s*\{([^{}]*)\}\s*")
_EXPECTED = 'expected name={class, class} with ; between them, such as "lungs={1,2}; any={1,2,3}"'


def _numbers(value: Any) -> Any:
    """One or several; texts with commas between them, as the command line has them."""
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        return (float(value),)
    if isinstance(value, str):
        value = (value,)
    if not isinstance(value, (list, tuple)):
        raise ValueError("a number or a list of numbers")
    found: list[Any] = []
    for item in value:
        found += item.split(",") if isinstance(item, str) else [item]
    try:
        if any(isinstance(item, bool) for item in found):
            raise ValueError
        return tuple(dict.fromkeys(float(item) for item in found))
    except (TypeError, ValueError):
        raise ValueError("a number or a list of numbers") from None


Numbers = Annotated[tuple[float, ...], BeforeValidator(_numbers), Field(min_length=1)]


@plain(frozen=True)
class Smoothing:
    """One certificate: everything that decides it, but for the draws.

    Attributes:
        sigma: standard deviation of the noise, in shares of the pixel range.
        tau: the probability that a pixel's class must be shown to exceed.
        n: draws of the test; ``n0``: those that choose what is tested.
        alpha: the chance, at most, that any pixel of a case is certified wrongly.
        hierarchy: names of coarser classes, and their members as written.
    """

    sigma: float
    tau: float
    n: int
    n0: int
    alpha: float
    correction: Correction
    hierarchy: str

    @property
    def budget(self) -> Budget:
        """The radius, as a budget of its own kind."""
        return Budget(KIND, Fraction(radius(self.sigma, self.tau)))

    @property
    def parameters(self) -> dict[str, Any]:
        """All but tau, which the radius says: what the points of a curve have in common."""
        own = asdict(self)
        del own["tau"]
        return own

    @property
    def label(self) -> str:
        """The name with what tells it from others."""
        return str(Spec(NAME, {"sigma": f"{self.sigma:g}"}))

    @property
    def parameters_text(self) -> str:
        """The parameters as canonical JSON, as the rows hold them."""
        return json.dumps(self.parameters, sort_keys=True)

    @property
    def facts(self) -> dict[str, Any]:
        """What identifies it."""
        return {"name": NAME, "rules": RULES, **asdict(self)}


@dataclass(frozen=True, config=STRICT)
class Certify:
    """What is asked for: every sigma at every tau.

    Attributes:
        hierarchy: ``lungs={1,2}; any={1,2,3}``, by the numbers of classes or their names: coarser
            classes, each within another or apart from it.
    """

    sigma: Numbers = (0.25,)
    tau: Numbers = (0.75,)
    n: Count = 100
    n0: Count = 10
    alpha: float = 0.001
    correction: Correction = "holm"
    hierarchy: str = ""

    @property
    def certificates(self) -> Iterator[Smoothing]:
        """All of them.

        Raises:
            UserError: a value is none that it can have.
        """
        self._check()
        for sigma, tau in product(self.sigma, self.tau):
            yield Smoothing(
                sigma, tau, self.n, self.n0, self.alpha, self.correction, self.hierarchy
            )

    def _check(self) -> None:
        for sigma in self.sigma:
            if not 0 < sigma < float("inf"):
                raise UserError(
                    f"sigma = {sigma:g} is no noise to smooth with; expected a number above 0, "
                    "such as 0.25 of the pixel range"
                )
            if sigma > _MOST_NOISE:
                raise UserError(
                    f"sigma = {sigma:g} leaves nothing of an image: it counts in ranges of a "
                    f"pixel, [0, 1]; expected {_MOST_NOISE:g} at most, such as 0.25"
                )
        for tau in self.tau:
            if not 0.5 < tau < 1:  # at 1/2 the radius is 0, and what is proved is of no change
                raise UserError(
                    f"tau = {tau:g} is no probability to certify; expected one above 0.5, below 1"
                )
        if not 0 < self.alpha < 1:
            raise UserError(
                f"alpha = {self.alpha:g} is no chance of error; expected one above 0 and below 1"
            )
        parse_hierarchy(self.hierarchy)


def parse_hierarchy(text: str) -> dict[str, tuple[str, ...]]:
    """Names of coarser classes, each with its members as they are written.

    Raises:
        UserError: it is no such text.
    """
    found: dict[str, tuple[str, ...]] = {}
    for part in filter(str.strip, text.split(";")):
        match = _GROUP.fullmatch(part)
        if not match or match[1] in found:
            raise UserError(f"hierarchy = {shown(text)} is none; {_EXPECTED}")
        found[match[1]] = tuple(member.strip() for member in match[2].split(","))
    return found


def coarser_classes(text: str, class_names: Sequence[str]) -> list[tuple[int, ...]]:
    """The members of every coarser class by their numbers, the smallest class first.

    Raises:
        UserError: a member is no class or may be either of two, a coarser class is none, or two of
            them overlap.
    """
    found: dict[tuple[int, ...], str] = {}
    for name, members in parse_hierarchy(text).items():
        own = tuple(sorted({_number(member, name, class_names) for member in members}))
        if not 1 < len(own) < len(class_names) or own in found:
            raise UserError(
                f"hierarchy: {name} is no coarser class; expected two classes or more, not all of "
                "them, and none twice"
            )
        for other, its in found.items():
            both = {*own} & {*other}
            if both and both not in ({*own}, {*other}):
                raise UserError(f"hierarchy: {name} and {its} overlap, and neither holds the other")
        found[own] = name
    return sorted(found, key=lambda members: (len(members), members))


def _number(member: str, group: str, class_names: Sequence[str]) -> int:
    """The class that a member of a coarser class is, by its name or its number.

    Raises:
        UserError: it is none, or the name of one class and the number of another.
    """
    meant = {place for place, name in enumerate(class_names) if member in (name, str(place))}
    if len(meant) == 1:
        return meant.pop()
    classes = ", ".join(f"{place} {own}" for place, own in enumerate(class_names))
    what = "the name of one class and the number of another" if meant else "no class"
    raise UserError(f"hierarchy: {group} has {member!r}, {what}; there are {classes}")


def held_by(smoothing: Smoothing, class_names: Sequence[str]) -> Any:
    """Which classes each candidate holds; see ``metrics.certificates.candidates``."""
    return candidates(len(class_names), coarser_classes(smoothing.hierarchy, class_names))
