"""A network ready to be attacked on its data, and what it is known by."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import torch
from torch import nn

from segbench.api import Case
from segbench.data.file_dataset import FileDataset
from segbench.data.regrid import OWN_GRID, Regrid
from segbench.engine.meeting import meets_cases
from segbench.engine.memory import keep_freed_memory
from segbench.engine.network import Network
from segbench.engine.precision import choose_device, choose_precision, require_ieee_fp32
from segbench.engine.unpooling import has_unpooling
from segbench.errors import UserError, named
from segbench.evaluation.request import DataSource, Options
from segbench.evaluation.taken import ALL, entries_of
from segbench.networks import LoadedModel, ModelReference
from segbench.networks.adapt import keep_declarations
from segbench.networks.fronted import asked_about
from segbench.networks.on_spacing import OnSpacing
from segbench.networks.stand_ins import adapt_model, case_of
from segbench.networks.tiling import TiledNetwork, Tiles, parse_tiles
from segbench.networks.whole_image import in_tiles
from segbench.plugins.dataset import load_case
from segbench.store.records import digest


@dataclass(frozen=True, eq=False)
class Subject:
    """A loaded network, one of the user's own adapted to the images of its data.

    Attributes:
        name: what tables call it.
        module: takes images (B, C, *spatial) in [0, 1].
        adapted: what was put around a network of the user's own, beside what was asked for.
        marks: why its rows may not be trusted, as far as adapting it has shown.
        said: what was done to it that the user should know, in sentences.
        axes: see ``axes_met``; "" before its cases are known.
    """

    name: str
    model: LoadedModel
    module: nn.Module
    data: DataSource
    device: torch.device
    adapted: str = ""
    marks: tuple[str, ...] = ()
    said: tuple[str, ...] = ()
    axes: str = ""

    @cached_property
    def sha256(self) -> str:
        """The network: its weights, its architecture, and all that is put around it."""
        return digest(
            {
                **self.model.facts,
                "weights": self.model.weights_sha256,
                "normalization": self.model.normalization and asdict(self.model.normalization),
                "adapted": self.adapted,
                # Attacked otherwise than before gradients knew of places.
                **({"gradients": "places"} if has_unpooling(self.module) else {}),
            }
        )

    def probe(self) -> list[Case]:
        """The cases, of one shape, that it is made ready on: two, or one where there is but one.

        They are the first by name of the whole data set that can be read, among those of shapes
        that the split has. Of the cases taken, or of a piece of a grid, precision and marks would
        depend on which cases were asked for.

        Raises:
            UserError: none can be read.
        """
        dataset = self.data.dataset
        shapes = {entry.shape for entry in entries_of(dataset, self.data.split)}
        cases: list[Case] = []
        for entry in entries_of(dataset, ALL):
            if entry.shape in shapes:
                with suppress(UserError):  # told of where it is asked for
                    cases.append(load_case(dataset, entry.case_id))
                    shapes = {entry.shape}
            if len(cases) == 2:
                break
        if not cases:
            raise UserError(f"no case of {self.data.spec} can be read")
        return cases

    def prepare(self, probe: Sequence[Case], options: Options) -> Network:
        """The network made ready for the engine, on some cases of one shape."""
        tiled = any(isinstance(part, TiledNetwork) for part in self.module.modules())
        # Of tiles no second copy is compared.
        policy = "fp32" if self.model.exact or self.marks or tiled else options.precision
        precision = choose_precision(self.device, policy)
        classes = len(self.data.dataset.class_names)
        network = Network(self.name, self.module, classes, self.device, precision, marks=self.marks)
        probe = probe[:1] if tiled or network.meets else probe
        network.meet(probe)
        if isinstance(self.module, TiledNetwork):  # whose answer to a part is like that to all
            probe = [_part(probe[0], self.module.tiles)]
        images = torch.stack([torch.from_numpy(case.image) for case in probe])
        labels = torch.stack([torch.from_numpy(case.labels) for case in probe]).to(self.device)
        truth = network.as_truth(labels, probe[0].ignore_index, probe[0].regions)
        network.prepare(images.to(self.device), truth)
        return network


def load_subject(reference: ModelReference, data: DataSource, options: Options) -> Subject:
    """Load a network and, if it is the user's own, adapt it to every shape of the split.

    Raises:
        UserError: it does not fit the data.
        MachineError: its code failed.
    """
    tiles = parse_tiles(options.tiles, options.overlap, options.tile_weights)
    regrid = getattr(data.dataset, "regrid", OWN_GRID)
    entries = entries_of(data.dataset, data.split)
    # Of the whole split and not of the cases taken, or the padding would depend on --limit.
    shapes = {entry.shape for entry in entries}
    if regrid.score_on == "original":
        assert isinstance(data.dataset, FileDataset)
        shapes = data.dataset.network_shapes()
    if tiles:
        shapes = {(shape[0], *tiles.within(shape[1:])) for shape in shapes}
    if tiles or regrid.score_on == "original":
        reference = asked_about(reference, frozenset(shapes))
    model = reference.load(data.dataset)
    require_ieee_fp32()  # last: a network's own file may have asked torch for less
    device = choose_device(options.device)
    if tiles is None:  # else what is freed is whole volumes, and is wanted back
        keep_freed_memory()
    if tiles and meets_cases(model.module):
        raise UserError(f"model {reference.name} brings tiles of its own; leave --tiles out")
    if regrid.score_on == "original" and meets_cases(model.module):
        raise UserError(
            f"model {reference.name} resamples by itself; leave spacing= and score_on= out"
        )
    if not model.own:
        with named(f"model {reference.name}"):
            module, how = _surrounded(model.module, tiles, regrid)
        return Subject(reference.name, model, module, data, device, how, said=model.said)
    with named(f"model {reference.name}"):
        case = case_of(data.dataset, (entry.case_id for entry in entries))
        model, found = adapt_model(model, shapes, len(data.dataset.class_names), case, device)
        module, how = _surrounded(found.module, tiles, regrid)
    return Subject(
        reference.name,
        model,
        module,
        data,
        device,
        f"{found.identity} {how}".strip(),
        found.marks,
        (*model.said, *found.said),
    )


def _part(case: Case, tiles: Tiles) -> Case:
    """A case cut down to two tiles that overlap by half; the same where it has no more."""
    spatial, spare = case.image.shape[1:], True
    place: list[slice] = [slice(None)]
    for side, whole in zip(tiles.within(spatial), spatial, strict=True):
        length = min(whole, side + side // 2) if spare else side
        spare = spare and length == side
        first = (whole - length) // 2
        place.append(slice(first, first + length))
    return replace(case, image=case.image[tuple(place)], labels=case.labels[tuple(place[1:])])


def _surrounded(network: nn.Module, tiles: Tiles | None, regrid: Regrid) -> tuple[nn.Module, str]:
    """A network asked tile by tile and at a spacing, where either is wanted; and its identity."""
    module, said = network, []
    if tiles is not None:
        module, how = in_tiles(module, tiles)
        said.append(how)
    if regrid.score_on == "original":
        module = OnSpacing(module, regrid)
        said.append(f"at {regrid.spacing} mm")
    if module is not network:
        keep_declarations(network, module)
    return module, " ".join(said)
