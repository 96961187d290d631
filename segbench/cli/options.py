"""Options that several commands share, and the completion of plug-in names."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource
from click.shell_completion import CompletionItem

from segbench.plugins import registry
from segbench.plugins.spec import canonical
from segbench.store.workspace import Workspace, half_a_url, open_workspace, require_no_url

Command = TypeVar("Command", bound=Callable[..., Any])
DEFAULT_DATASET = "phantom-cxr"


class SpecText(click.ParamType[str]):
    """Spec text of one kind of plug-in; completes the registered names."""

    name = "spec"

    def __init__(self, kind: registry.Kind) -> None:
        self.kind: registry.Kind = kind

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The registered names that begin so."""
        families = [f"{family}/" for family in registry.families(self.kind)]
        names = [*registry.names(self.kind), *families]
        return [CompletionItem(n) for n in names if n.startswith(incomplete)]


class DataSpec(SpecText):
    """Spec text of a data set, written the one way in which it is stored."""

    def __init__(self) -> None:
        super().__init__("datasets")

    def convert(self, value: str, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The canonical spec."""
        return canonical(value)


class SeedList(click.ParamType[tuple[int, ...]]):
    """Whole numbers separated by commas, each once: ``0,1,2``."""

    name = "seeds"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[int, ...]:
        """The numbers, in the order given."""
        if isinstance(value, tuple):
            return value
        try:
            seeds = tuple(int(item) for item in str(value).split(","))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers such as 0,1,2", param, ctx)
        if len(set(seeds)) < len(seeds):
            self.fail(f"{value!r} names a seed twice", param, ctx)
        return seeds


class TextList(click.ParamType[tuple[str, ...]]):
    """Texts separated by commas, each once: ``cuda:0,cuda:1``."""

    name = "list"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The texts, in the order given."""
        if isinstance(value, tuple):
            return value
        return tuple(dict.fromkeys(part.strip() for part in str(value).split(",") if part.strip()))


class WorkspaceFolder(click.ParamType[Workspace]):
    """A folder or a URL, neither of which need be there yet, as a workspace."""

    name = "directory"
    _folder = click.Path(path_type=Path, file_okay=False)

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> Workspace:
        """The workspace there."""
        if isinstance(value, Workspace):
            return value
        if "://" in str(value):
            return open_workspace(value)
        require_no_url(str(value))
        return Workspace(Path(self._folder.convert(value, param, ctx)))

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem]:
        """The shell's own folders."""
        return self._folder.shell_complete(ctx, param, incomplete)


class LocalPath(click.Path):
    """A file or folder of this machine that is to be written; no URL is made a folder of."""

    def __init__(self, *, folder: bool) -> None:
        super().__init__(path_type=Path, file_okay=not folder, dir_okay=folder)

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The path."""
        text = os.fsdecode(value)
        if "://" in text or half_a_url(text):
            kind = "folder" if self.dir_okay else "file"
            self.fail(f"{text!r} is a URL; expected a {kind} of this machine", param, ctx)
        return super().convert(value, param, ctx)


def workspace_option(command: Command) -> Command:
    """``--workspace``: where models, results and reports lie."""
    return click.option(
        "--workspace",
        type=WorkspaceFolder(),
        default="runs",
        show_default=True,
        envvar="SEGBENCH_WORKSPACE",
        help="Folder of models, results and reports; or s3://BUCKET/NAME, gs://BUCKET/NAME.",
    )(command)


def data_options(command: Command) -> Command:
    """``--dataset`` and ``--data-root``."""
    command = click.option(
        "--data-root",
        type=click.Path(path_type=Path, exists=True, file_okay=False),
        help="The data set's folder; remembered for later commands.",
    )(command)
    return click.option(
        "--dataset",
        type=DataSpec(),
        help="Data set spec, for example jsrt or folder:size=256 (see segbench list datasets).",
    )(command)


def own_network_options(command: Command) -> Command:
    """``--weights``, ``--normalize`` and so on: what a network of the user's own needs."""
    command = click.option(
        "--front",
        default="",
        metavar="SPEC",
        help="What every image passes before a network sees it: jpeg:quality=75, bit-depth:bits=5, "
        "median:size=3, tv:weight=0.03 or randomise:least=0.8. Attacks go around it.",
    )(command)
    command = click.option(
        "--tta",
        type=click.Choice(["flips"]),
        help="Also show every image flipped along all axes; the mean of the probabilities counts.",
    )(command)
    command = click.option(
        "--resize-logits",
        type=click.Choice(["bilinear", "bicubic", "nearest"]),
        help="How your own network's answers at a half or a quarter of the images' size are "
        "enlarged, inside the network.  [default: bilinear]",
    )(command)
    command = click.option(
        "--output",
        default="",
        metavar="INDEX|NAME|PATH",
        help="Which tensor of your own network's answer is the prediction, such as 1, -1, out or "
        "aux.0.  [default: the only one it can be]",
    )(command)
    command = click.option(
        "--channels",
        type=click.Choice(["repeat", "luminance"]),
        help="For your own network on data of another channel count: repeat gray images as RGB, "
        "or take the luminance of RGB ones.",
    )(command)
    command = click.option(
        "--normalize",
        default="",
        help="What your own network expects of its images: imagenet, zscore, 0-255 or "
        "mean=0.5,std=0.25.  [default: pixels in 0 to 1]",
    )(command)
    return click.option(
        "--weights",
        multiple=True,
        type=click.Path(path_type=Path, exists=True, dir_okay=False),
        help="Weights of your own network (.safetensors, .pt, .pth); one per such network, in "
        "order.",
    )(command)


def tile_options(command: Command) -> Command:
    """``--tiles``, ``--overlap`` and ``--tile-weights``."""
    command = click.option(
        "--tile-weights",
        type=click.Choice(["gaussian", "constant"]),
        default="gaussian",
        show_default=True,
        help="Of the answers within a tile.",
    )(command)
    command = click.option(
        "--overlap",
        type=float,
        default=0.5,
        show_default=True,
        help="Share of a tile that the next one has in common with it.",
    )(command)
    return click.option(
        "--tiles",
        default="",
        help="Ask networks tile by tile, 128x128x128 or 512: volumes and large images in the "
        "memory of one tile, with exact gradients.",
    )(command)


def case_options(limit: int | None = None) -> Callable[[Command], Command]:
    """``--split``, and ``--limit`` with its default."""

    def decorate(command: Command) -> Command:
        command = click.option(
            "--limit",
            type=at_least(1),
            default=limit,
            show_default=True,
            help="At most so many cases, spread over the split.",
        )(command)
        command = click.option(
            "--cases",
            type=click.Path(path_type=Path, exists=True, dir_okay=False),
            help="File that names the cases, one a line: a case, a volume or a patient.",
        )(command)
        return click.option(
            "--split",
            help="Of the data set's, or all.  [default: test; all for your own network on data "
            "that nobody has split]",
        )(command)

    return decorate


def precision_option(command: Command) -> Command:
    """``--precision``."""
    return click.option(
        "--precision",
        type=click.Choice(["auto", "fp32"]),
        default="auto",
        show_default=True,
        help="Of gradients only; every decision and score is fp32.",
    )(command)


def executor_options(command: Command) -> Command:
    """``--executor`` and what belongs to it, and ``--shard``."""
    for option in (
        click.option(
            "--shard",
            metavar="I/N",
            help="Only this part of the grid, 3/16. The parts can run anywhere and at any time, on "
            "one workspace.",
        ),
        click.option(
            "--case-timeout",
            type=float,
            metavar="SECONDS",
            help="A case that takes longer is left out (processes, ray).",
        ),
        click.option(
            "--devices",
            type=TextList(),
            default=(),
            help="A process on each: cuda:0,cuda:1 or all (processes).",
        ),
        click.option(
            "--workers",
            type=at_least(1),
            help="Processes per device, which share this machine's threads (processes); all actors "
            "together (ray).",
        ),
        click.option(
            "--executor",
            type=click.Choice(["local", "processes", "ray"]),
            default="local",
            show_default=True,
            help="In this process, in several, or in a pool of Ray's, here or on the cluster at "
            "RAY_ADDRESS. Changes no result.",
        ),
    ):
        command = option(command)
    return command


def said(options: dict[str, Any]) -> dict[str, Any]:
    """Those options of the running command that somebody gave, be it their default."""
    source = click.get_current_context().get_parameter_source
    return {name: v for name, v in options.items() if source(name) is not ParameterSource.DEFAULT}


def plan_option(command: Command) -> Command:
    """``--plan``."""
    return click.option(
        "--plan",
        is_flag=True,
        help="Only say what is missing, in how many pieces, and what it will cost by what its like "
        "has cost here.",
    )(command)


def out_option(default: str) -> Callable[[Command], Command]:
    """``--out``; ``default`` is the folder's name in the workspace."""
    return click.option(
        "--out",
        type=LocalPath(folder=True),
        help=f"Folder of the files.  [default: WORKSPACE/{default}]",
    )


def device_option(command: Command) -> Command:
    """``--device``."""
    return click.option("--device", help="cpu, cuda, cuda:1 …  [default: the accelerator, if any]")(
        command
    )


def at_least(minimum: int) -> click.IntRange:
    """A whole number from ``minimum`` up, and no more than anything here can be counted to."""
    return click.IntRange(minimum, 10**9)
