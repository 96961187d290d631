"""The marks of rows: words that say why not to trust them, and words that only say how they came.

Rows hold marks separated by spaces; see ``Network.marks``.
"""

from __future__ import annotations

TRAINED = "trained-case"
"""The network was trained, or its best epoch chosen, on this very case."""

FITTED = "fitted-case"
"""The attack was fitted on this very case, which it is to be tried on."""

OTHER_DATA = "other-data"
"""The data set is not, or no longer, the one that the network's card names."""

CONSTANT = "constant-answer"
"""On these data the network does no better than an answer that looks at no image."""

UNREPEATABLE = "unrepeatable"
"""The device sums the network's gradients in an order that is left to chance."""

UNPOOLING = "unpooling"
"""The network puts values back where maxima were; gradients know of the places."""

HIDDEN_ROUTES = "hidden-routes"
"""The answer depends on what the image decides without a gradient, such as places of maxima."""

_ADAPTED = {
    "bpda": "through the stand-ins that its layers bring for the backward pass",
    "eot": "by gradients averaged over {} draws of the network",
    UNPOOLING: "by gradients that know where maxima may lie, which max-unpooling passes on without",
    UNREPEATABLE: "by gradients that this device rounds otherwise each time, so that a second run "
    "is not the same",
}
"""Marks that say how gradients are come by; nothing is wrong with such rows.

Every row of such a network bears them, a clean one too, for which none were taken.
"""


def distrusted(marks: str) -> str:
    """The marks that speak against the numbers, separated by spaces; empty if there are none."""
    harmless = {*_ADAPTED, OTHER_DATA}
    return " ".join(word for word in marks.split() if word.partition(":")[0] not in harmless)


def adapted(marks: str) -> list[str]:
    """How an attack on it comes by its gradients, in words; around declared defences, say."""
    parts = [word.partition(":") for word in marks.split()]
    return [_ADAPTED[name].format(value) for name, _, value in parts if name in _ADAPTED]
