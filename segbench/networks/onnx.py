"""``onnx:FILE``: a network as ONNX, converted where that is faithful, else a black box.

It is converted by onnx2torch, and the conversion serves where its answers are onnxruntime's, about
images of every size that it is asked about; see ``stand_ins.py``. Otherwise onnxruntime itself
answers, and there is no gradient: attacks that ask for scores or labels alone can be run. Weights
beside the file must lie in its folder.
"""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor, nn

from segbench.atomic import read_regular
from segbench.errors import MachineError, UserError
from segbench.networks.channels import channels_seen
from segbench.networks.libraries import import_library
from segbench.networks.loaded import LoadedModel, Original
from segbench.networks.onnx_forms import forms
from segbench.networks.own import own_model, wanted_images
from segbench.networks.stand_ins import alike

if TYPE_CHECKING:
    from segbench.api import Dataset
    from segbench.networks.wishes import Wishes

_DYNAMIC = 64  # the size at which a conversion is first compared along axes that may have any


def load(path: Path, options: Mapping[str, str], dataset: Dataset, wishes: Wishes) -> LoadedModel:
    """The network of a file.

    Raises:
        UserError: it cannot be read, takes something else than images, or reads other folders.
    """
    content, model = _read(path)
    beside = _external(model, path)
    content += b"".join(hashlib.sha256(read_regular(file)).digest() for file in beside)
    digest = hashlib.sha256(content).hexdigest()
    box = BlackBox(path)
    seen = channels_seen(wishes.channels, dataset.in_channels)
    converted, reason = _converted(path, box, seen)
    if converted is not None:
        found = own_model(converted, digest, dataset, wishes)
        shown = {"onnx": "converted by onnx2torch; its answers are onnxruntime's"}
        facts = {**found.facts, "onnx2torch": version("onnx2torch")}
        original = Original(box, "onnx2torch", partial(_black_box, box, digest, dataset, wishes))
        return replace(found, weights_sha256=digest, facts=facts, shown=shown, original=original)
    return _black_box(box, digest, dataset, wishes, reason)


def _black_box(
    box: BlackBox, digest: str, dataset: Dataset, wishes: Wishes, reason: str
) -> LoadedModel:
    """The network as onnxruntime runs it, and why it is not converted."""
    box.no_gradient = (
        f"an ONNX network that is a black box here ({reason}): attacks by scores and labels alone "
        "can be run, such as square and rays"
    )
    wanted = wanted_images(wishes, dataset)
    facts = {"source": digest, "onnxruntime": box.version}
    return LoadedModel(
        box, digest, facts, True, wanted, wishes, exact=True,
        shown={"onnx": f"a black box through onnxruntime: {reason}"},
        said=(f"gradients cannot be had: {reason}",),
    )  # fmt: skip


class BlackBox(nn.Module):
    """What onnxruntime answers: images (B, C, *spatial) -> tensors, without a gradient."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        runtime = import_library("onnxruntime", "onnx")
        settings = runtime.SessionOptions()
        settings.intra_op_num_threads = torch.get_num_threads()
        settings.log_severity_level = 4
        try:
            self.session = runtime.InferenceSession(
                str(path), settings, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # it raises classes of its own, of no common kind
            raise UserError(
                f"{path} cannot be run by onnxruntime: {str(error).splitlines()[0]}"
            ) from error
        inputs = self.session.get_inputs()
        if len(inputs) != 1 or inputs[0].type != "tensor(float)":
            kinds = ", ".join(f"{one.name} {one.type}" for one in inputs)
            raise UserError(f"{path} takes {kinds}; expected images alone, tensor(float)")
        self.input, self.shape = inputs[0].name, tuple(inputs[0].shape)
        fixed = self.shape[0] if self.shape else None
        self.batch = fixed if isinstance(fixed, int) and fixed > 1 else None
        self.outputs = tuple(output.name for output in self.session.get_outputs())
        self.version = runtime.__version__
        self.no_gradient = ""

    def forward(self, images: Tensor) -> Any:
        """Its only output, or all of them by name."""
        batches = torch.split(images.detach().cpu(), self.batch or len(images))
        parts = zip(*map(self._answers, batches), strict=True)
        answers = [torch.cat(own).to(images.device) if len(own) > 1 else own[0] for own in parts]
        return answers[0] if len(answers) == 1 else dict(zip(self.outputs, answers, strict=True))

    def _answers(self, images: Tensor) -> list[Tensor]:
        """To no more images than a batch of its own has, which is filled with the last of them."""
        count = len(images)
        lacking = (self.batch or count) - count
        filled = torch.cat([images, *[images[-1:]] * lacking]) if lacking else images
        found = self.session.run(None, {self.input: filled.numpy()})
        answers = [torch.from_numpy(np.ascontiguousarray(one)) for one in found]
        return [answer[:count] for answer in answers] if lacking else answers


def _read(path: Path) -> tuple[bytes, Any]:
    """The file, and its graph without weights that lie elsewhere."""
    onnx = import_library("onnx", "onnx")
    try:
        content = read_regular(path)
        model = onnx.ModelProto()
        model.ParseFromString(content)
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror or error}") from None
    except Exception as error:  # protobuf's own, of no public class
        raise UserError(f"{path} is no ONNX file ({type(error).__name__})") from error
    if not model.graph.node:
        raise UserError(f"{path} is no ONNX file: it has no graph")
    return content, model


def _external(model: Any, path: Path) -> list[Path]:
    """The files beside it that hold its weights.

    Raises:
        UserError: one lies in another folder.
    """
    found: set[str] = set()
    for tensor in _tensors(model):
        if tensor.data_location == tensor.EXTERNAL:
            found |= {entry.value for entry in tensor.external_data if entry.key == "location"}
    for name in sorted(found):
        file = path.parent / name
        inside = file.resolve().parent == path.parent.resolve()
        if Path(name).name != name or name in ("", ".", "..") or not inside:
            raise UserError(f"{path} keeps weights at {name!r:.80}, outside its folder")
        if not file.is_file():
            raise UserError(f"{path} keeps weights in {name}, which is not there")
    return [path.parent / name for name in sorted(found)]


def _tensors(message: Any) -> Iterator[Any]:
    """Every tensor anywhere in a file."""
    if message.DESCRIPTOR.name == "TensorProto":
        yield message
        return
    for field, value in message.ListFields():
        if field.message_type is not None:
            for part in value if hasattr(value, "__len__") else (value,):
                yield from _tensors(part)


class Converted(nn.Module):
    """What onnx2torch makes of a graph, its answers named as the file names them."""

    def __init__(self, network: nn.Module, outputs: tuple[str, ...]) -> None:
        super().__init__()
        self.network = network
        self.outputs = outputs

    def forward(self, images: Tensor) -> Any:
        """Its only output, or all of them by name."""
        answer = self.network(images)
        if len(self.outputs) == 1:
            return answer
        return dict(zip(self.outputs, answer, strict=True))


def _converted(path: Path, box: BlackBox, channels: int) -> tuple[nn.Module | None, str]:
    """The network as torch's layers; None, and why, where that is not the same network."""
    try:
        library = import_library("onnx2torch", "onnx")
    except (UserError, MachineError) as error:
        return None, str(error)
    reasons = []
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        probe = torch.rand(_probe_shape(box.shape, channels))
        expected = _answered(box, probe)
        for model in forms(path):
            try:
                network = Converted(library.convert(model), box.outputs).eval()
                if expected is None or alike(network(probe), expected):
                    return network, ""
            except Exception as error:  # converters fail in any way
                reason = str(error).strip().partition("\n")[0]
                reasons.append(f"onnx2torch does not convert it ({type(error).__name__}: {reason})")
            else:
                reasons.append("what onnx2torch makes of it answers otherwise")
    return None, reasons[-1]


def _answered(box: BlackBox, probe: Tensor) -> Any:
    """What the file answers; None where it does not take images of that size."""
    try:
        return box(probe)
    except Exception:  # onnxruntime's own classes, of no common kind
        return None


def _probe_shape(shape: tuple[Any, ...], channels: int) -> tuple[int, ...]:
    sizes = [size if isinstance(size, int) else _DYNAMIC for size in shape]
    sizes[0] = sizes[0] if isinstance(shape[0], int) else 2
    if len(sizes) > 1 and not isinstance(shape[1], int):
        sizes[1] = channels
    return tuple(sizes)
