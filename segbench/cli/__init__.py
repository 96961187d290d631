"""The command line: one file per command, each imported only when it is asked for."""

from __future__ import annotations

import importlib
import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from segbench import __version__
from segbench.errors import MachineError, UserError

COMMANDS = (
    "demo", "train", "attack", "report", "export", "check", "run", "list", "inspect", "diagnose",
    "doctor",
)  # fmt: skip

EXIT_REGRESSION, EXIT_INPUT, EXIT_MACHINE, EXIT_INTERRUPTED = 1, 2, 3, 130


class CommandGroup(click.Group):
    """Commands by file name, and errors as one sentence with the right exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of the file of that name."""
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"segbench.cli.{name}")
        return module.command  # type: ignore[no-any-return]

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest command for one that does not exist."""
        from segbench.plugins.registry import suggest

        name = args[0]
        if not name.startswith("-") and name not in COMMANDS:
            raise UserError(f"no command {name!r}{suggest(name, COMMANDS)}")
        return super().resolve_command(ctx, args)

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        """Run, and leave with the exit status that README and ``--help`` promise."""
        extra["standalone_mode"] = False
        try:
            result = super().main(args, **extra)
        except click.exceptions.Exit as stop:
            sys.exit(stop.exit_code)
        except (click.Abort, KeyboardInterrupt):
            _say("interrupted; everything finished is kept, the same command goes on from there")
            sys.exit(EXIT_INTERRUPTED)
        except click.ClickException as error:
            _fail(error, error.format_message(), EXIT_INPUT)
        except UserError as error:
            _fail(error, str(error), EXIT_INPUT)
        except MachineError as error:
            _fail(error, str(error), EXIT_MACHINE)
        except OSError as error:
            _fail(error, f"{error.strerror or error}: {error.filename or ''}", EXIT_MACHINE)
        except MemoryError as error:
            _fail(error, "out of memory; try a smaller --batch-size", EXIT_MACHINE)
        except Exception as error:
            _fail(error, f"internal error: {type(error).__name__}: {error}", EXIT_MACHINE)
        sys.exit(result if isinstance(result, int) else 0)


def _fail(error: BaseException, message: str, status: int) -> NoReturn:
    if _debugging():
        traceback.print_exception(error)
    _say(message)
    sys.exit(status)


def _say(message: str) -> None:
    text = " ".join(message.split())
    click.echo(f"{click.style('Error:', fg='red')} {text}", err=True)


def _debugging() -> bool:
    return "--debug" in sys.argv or _Debug.on


class _Debug:
    """Set by ``--debug`` (or ``SEGBENCH_DEBUG``) before any command runs."""

    on = False


def _set_debug(_ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    _Debug.on = value


@click.group(
    cls=CommandGroup,
    context_settings={
        "help_option_names": ["-h", "--help"],
        "auto_envvar_prefix": "SEGBENCH",
        "max_content_width": 100,
    },
)
@click.version_option(__version__, prog_name="segbench")
@click.option(
    "--debug",
    is_flag=True,
    expose_value=False,
    is_eager=True,
    callback=_set_debug,
    help="Show the traceback behind an error.",
)
def main() -> None:
    """How wrong can a biomedical segmentation network be made, and is it getting worse?

    \b
    segbench demo                          everything below, small, in minutes
    segbench train nlcen unet              train on generated chest radiographs
    segbench attack --eps 0.03             attack every trained network
    segbench report                        the table of all stored results

    Every option has an environment variable: SEGBENCH_ATTACK_EPS for attack --eps.

    Exit status: 0 done; 1 the gate found a regression; 2 the input is wrong; 3 the machine or a
    plug-in failed; 130 interrupted.
    """
