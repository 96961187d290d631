"""Text and tables as Markdown writes them."""

from __future__ import annotations

import re
from collections.abc import Sequence

from segbench.api import plain

# Columns set to the left.
_TEXT = {
    "Model",
    "Against",
    "Source",
    "Attack",
    "Norm",
    "Marks",
    "Of",
    "Name",
    "SHA-256",
    "Data set",
    "Split",
    "Network",
    "Weights, SHA-256",
    "By",
    "Mark",
    "Certificate",
    "Structure",
}


def markdown_table(heads: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    """A table whose columns line up in plain text too; text to the left, numbers to the right."""
    columns = list(zip(heads, *lines, strict=True))
    widths = [max(3, *map(len, column)) for column in columns]
    numeric = [head not in _TEXT for head in heads]

    def pad(cells: Sequence[str]) -> str:
        padded = [
            cell.rjust(width) if right else cell.ljust(width)
            for cell, width, right in zip(cells, widths, numeric, strict=True)
        ]
        return f"| {' | '.join(padded)} |"

    rule = [
        "-" * (width - 1) + ":" if right else "-" * width
        for width, right in zip(widths, numeric, strict=True)
    ]
    return "\n".join([pad(heads), pad(rule), *map(pad, lines)])


def escape(text: str) -> str:
    """Text that Markdown shows as it is, in a table too."""
    return re.sub(r"([\\`*|<])", r"\\\1", plain(text)).replace("\n", " ")
