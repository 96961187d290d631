"""Whether scores that bear one attack's name are of one attack."""

from __future__ import annotations

from collections.abc import Iterator

from pandas import DataFrame

from segbench.plugins.naming import attack_spec
from segbench.tables.texts import distinct, few


def describe_code(rows: DataFrame) -> Iterator[str]:
    """A sentence for each attack that was edited, or whose libraries were, between its scores.

    Args:
        rows: as they are stored, under the names that tables show; of those that an older segbench
            stored the code is not known, and nothing is said.
    """
    found: dict[str, dict[str, set[str]]] = {}
    keys = ["attack", "attack_params", "attack_sha256", "model"]
    for attack, parameters, code, model in distinct(rows[rows["attack_sha256"] != ""], keys):
        states = found.setdefault(attack_spec(attack, parameters), {})
        states.setdefault(str(code), set()).add(str(model))
    for attack, states in sorted(found.items()):
        if len(states) > 1:
            parts = sorted(few(sorted(models)) for models in states.values())
            yield (
                f"{attack} is not one attack here: its code or its libraries, or the network "
                "that it takes images from, changed between its scores "
                f"({' / '.join(parts)}), which are no comparison. Attack all of them again with "
                "the same command: what today's code has scored is not computed twice."
            )
