"""The two consoles that commands print on, by rich: what they are given is text, never markup."""

from __future__ import annotations

from typing import Any

from rich.console import Console
from rich.text import Text

from segbench.cli.terminal import plain


class PlainConsole(Console):
    """Prints strings as they are: no markup, no emoji codes, no control characters.

    Colour is given as a ``style``, or as a ``rich.text.Text`` that segbench wrote.
    """

    def __init__(self, *, stderr: bool = False) -> None:
        super().__init__(stderr=stderr, markup=False, emoji=False, highlight=False)

    def render_str(self, text: str, **how: Any) -> Text:
        """Every string that rich prints comes through here, also those in tables."""
        return super().render_str(plain(text), **how)


console = PlainConsole()
messages = PlainConsole(stderr=True)


def coloured(start: str, style: str, rest: str) -> Text:
    """A line whose beginning has a colour."""
    return Text.assemble((plain(start), style), plain(rest))
