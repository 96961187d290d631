"""The command of a benchmark: input that is wrong is one sentence and exit status 2."""

from __future__ import annotations

from typing import Any

import click

from segbench.errors import UserError


class Script(click.Command):
    """A command that says a ``UserError`` as click says its own."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run it."""
        try:
            return super().invoke(ctx)
        except UserError as error:
            raise click.UsageError(str(error), ctx) from error
