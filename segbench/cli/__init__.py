"""The command line: one file per command, each imported only when it is asked for."""

from __future__ import annotations

import errno
import importlib
import os
import signal
import sys
import threading
import traceback
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TextIO

import click

from segbench import __version__
from segbench.cli.address_space import require_address_space
from segbench.cli.terminal import flush, forgiving_streams, plain
from segbench.errors import MachineError, Terminated, UserError

COMMANDS = (
    "demo", "train", "attack", "report", "export", "export-model", "check", "run", "submit", "list",
    "inspect", "diagnose", "certify", "doctor", "coverage", "compare", "leaderboard",
)  # fmt: skip

EXIT_REGRESSION, EXIT_INPUT, EXIT_MACHINE, EXIT_INTERRUPTED = 1, 2, 3, 130

_KEPT = "everything finished is kept"
_KEPT_ALL = f"{_KEPT}, the same command goes on from there"
_LONGEST = 2000  # characters of a message


class CommandGroup(click.Group):
    """Commands by file name, and errors as one sentence with the right exit status."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order in which a newcomer meets them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, name: str) -> click.Command | None:
        """The command of the file of that name."""
        if name not in COMMANDS:
            return None
        module = importlib.import_module(f"segbench.cli.{name.replace('-', '_')}")
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

    def _main_shell_completion(self, *arguments: Any, **more: Any) -> None:
        """Answer a shell; the end of that is click's own and no plug-in's."""
        try:
            super()._main_shell_completion(*arguments, **more)
        except SystemExit as end:
            raise click.exceptions.Exit(int(end.code or 0)) from None

    def main(self, args: Sequence[str] | None = None, **extra: Any) -> NoReturn:  # type: ignore[override]
        """Run, and leave with the exit status that README and ``--help`` promise."""
        extra["standalone_mode"] = False
        with forgiving_streams(), warnings.catch_warnings(), _signals_raise():
            warnings.showwarning = _show_warning
            try:
                result = super().main(args, **extra)
                status = result if isinstance(result, int) else 0
                flush()
            except BaseException as error:
                status = _explain(error)
                with suppress(OSError):
                    flush()
        sys.exit(status)


@contextmanager
def _signals_raise() -> Iterator[None]:
    """A signal to end is an exception in this block, so that what is open is closed; once."""

    def end(number: int, _frame: FrameType | None) -> None:
        signal.signal(number, signal.SIG_IGN)
        raise Terminated(number)

    names = ("SIGTERM", "SIGHUP") if threading.current_thread() is threading.main_thread() else ()
    numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
    former = {number: signal.getsignal(number) for number in numbers}
    for number, handler in former.items():
        if handler is signal.SIG_DFL:  # nohup has it ignored, and means that
            signal.signal(number, end)
    try:
        yield
    finally:
        for number, handler in former.items():
            signal.signal(number, handler)


def _explain(error: BaseException) -> int:
    """Say what went wrong in one sentence; the exit status that belongs to it."""
    if isinstance(error, click.exceptions.Exit):
        return error.exit_code
    if isinstance(error, click.Abort) and error.__cause__ is not None:
        error = error.__cause__  # click's word for Ctrl-C, and for the end of standard input
    if isinstance(error, click.Abort | KeyboardInterrupt):
        ended = error if isinstance(error, Terminated) else None
        _say(f"{f'ended by {ended.name}' if ended else 'interrupted'}; {str(error) or _KEPT_ALL}")
        return 128 + ended.number if ended else EXIT_INTERRUPTED
    if _debugging():
        click.echo(plain("".join(traceback.format_exception(error))), err=True)
    if isinstance(error, click.ClickException):
        _say(error.format_message())
        return EXIT_INPUT
    if isinstance(error, UserError):
        _say(str(error))
        return EXIT_INPUT
    _say(_failure(error))
    return EXIT_MACHINE


def _failure(error: BaseException) -> str:
    """What the machine, or a plug-in, failed at."""
    if isinstance(error, MachineError):
        return str(error)
    if isinstance(error, MemoryError) or _is_out_of_memory(error):
        return "out of memory; try a smaller --batch-size"
    if isinstance(error, SystemExit):
        return (
            f"a network, an attack or another plug-in ended the process (SystemExit: {error.code}) "
            f"before its work was done; {_KEPT}"
        )
    if isinstance(error, OSError):
        reason = error.strerror or str(error)
        if error.filename is not None:
            return f"{reason}: {error.filename}"
        if error.errno == errno.ENOENT and not _current_folder_exists():
            return "the current folder does not exist any more; change to one that does"
        return reason
    return f"internal error: {type(error).__name__}: {error}"


def _is_out_of_memory(error: BaseException) -> bool:
    """Whether torch, if it is there, ran out of memory."""
    from segbench.engine.memory import is_out_of_memory

    return "torch" in sys.modules and is_out_of_memory(error)


def _current_folder_exists() -> bool:
    try:
        return bool(os.getcwd())
    except FileNotFoundError:
        return False


def _show_warning(
    message: Warning | str,
    category: type[Warning],
    filename: str,
    lineno: int,
    file: TextIO | None = None,
    line: str | None = None,
) -> None:
    """Warnings of segbench itself as a line; those of libraries as Python shows them."""
    if category is UserWarning and Path(filename).is_relative_to(Path(__file__).parents[1]):
        _echo("Note:", "yellow", str(message))
    else:
        click.echo(
            plain(warnings.formatwarning(message, category, filename, lineno, line)), err=True
        )


def _say(message: str) -> None:
    _echo("Error:", "red", message)


def _echo(word: str, colour: str, message: str) -> None:
    text = plain(" ".join(message.split()))
    if len(text) > _LONGEST:
        text = f"{text[: _LONGEST // 2]} … {text[-_LONGEST // 2 :]}"
    click.echo(f"{click.style(word, fg=colour)} {text}", err=True)


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
    plug-in failed; 130 interrupted; 143 ended by a signal (128 and its number).
    """
    require_address_space()
