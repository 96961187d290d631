"""No file that is read ever runs code: audit hooks listen while each loader reads bombs."""

from __future__ import annotations

import io
import json
import os
import pickle
import sys
import zipfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from segbench.errors import UserError
from segbench.networks.scripted import load_archive
from segbench.training.checkpoint import load_checkpoint
from segbench.training.progress import load_progress
from segbench.training.weight_files import load_tensors
from segbench.training.weights import load_weights

_EVENTS = {"pickle.find_class", "os.system", "subprocess.Popen", "os.exec", "os.posix_spawn"}
_heard: list[str] = []
_listening = False


def _listen(event: str, arguments: Any) -> None:
    if _listening and event in _EVENTS:
        _heard.append(f"{event} {arguments}")


sys.addaudithook(_listen)


@contextmanager
def nothing_runs() -> Iterator[None]:
    """Fails where a pickle names a class or function, or a process is started."""
    global _listening
    _heard.clear()
    _listening = True
    try:
        yield
    finally:
        _listening = False
    assert _heard == []


class Bomb:
    """Runs a command when it is unpickled."""

    def __reduce__(self) -> Any:
        return (os.system, ("true",))


def saved(content: Any, **how: Any) -> bytes:
    file = io.BytesIO()
    torch.save(content, file, **how)
    return file.getvalue()


BOMBS = {
    "pickle": pickle.dumps(Bomb()),
    "torch": saved(Bomb()),
    "torch, old format": saved(Bomb(), _use_new_zipfile_serialization=False),
    "torch, beside tensors": saved({"weight": torch.zeros(1), "more": Bomb()}),
}


def _weights(path: Path) -> None:
    load_weights(nn.Conv2d(1, 1, 1), path)


def _archive(path: Path) -> None:
    load_archive(path.read_bytes(), path)


def _progress(path: Path) -> None:
    load_progress(path)


def test_the_listener_hears_a_bomb() -> None:
    with pytest.raises(AssertionError, match=r"pickle\.find_class"), nothing_runs():
        pickle.loads(BOMBS["pickle"])


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize(
    ("loader", "suffix"),
    [
        *((_weights, suffix) for suffix in (".pt", ".pth", ".bin", ".safetensors")),
        *((_archive, suffix) for suffix in (".pt", ".pth", ".ts", ".torchscript", ".pt2")),
        (_progress, ".pt"),
    ],
)
def test_a_bomb_is_refused_whatever_it_calls_itself(
    loader: Callable[[Path], None], suffix: str, content: bytes, tmp_path: Path
) -> None:
    path = tmp_path / f"file{suffix}"
    path.write_bytes(content)
    with nothing_runs(), pytest.raises(UserError, match="file"):
        loader(path)


@pytest.mark.parametrize("content", BOMBS.values(), ids=BOMBS)
def test_a_checkpoint_of_bombs_is_refused(content: bytes, tmp_path: Path) -> None:
    for name in ("model.safetensors", "card.json", "training.pt"):
        (tmp_path / name).write_bytes(content)
    with nothing_runs(), pytest.raises(UserError):
        load_checkpoint(tmp_path)


# -------------------------------------------------------------------------- torch.export archives


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 2, 3, padding=1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return self.conv(images)


@pytest.fixture(scope="module")
def archive() -> bytes:
    """An honest archive, of any batch and any height."""
    shapes = ({0: torch.export.Dim("batch"), 2: torch.export.Dim("height", min=2)},)
    program = torch.export.export(Net(), (torch.rand(2, 1, 6, 8),), dynamic_shapes=shapes)
    file = io.BytesIO()
    torch.export.save(program, file)
    return file.getvalue()


def rewritten(
    archive: bytes, changes: dict[str, Callable[[bytes], bytes]], more: Any = ()
) -> bytes:
    """The archive with its records of those endings changed, and more of them."""
    file = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(file, "w") as new:
        for name in old.namelist():
            content = old.read(name)
            for ending, change in changes.items():
                content = change(content) if name.endswith(ending) else content
            new.writestr(name, content)
        for name, content in more:
            new.writestr(f"archive/{name}", content)
    return file.getvalue()


def opened(content: bytes, tmp_path: Path) -> nn.Module:
    return load_archive(content, tmp_path / "net.pt2")


def _pickled(records: bytes) -> bytes:
    config = json.loads(records)
    for payload in config["config"].values():
        payload["use_pickle"] = True
    return json.dumps(config).encode()


def _object(records: bytes) -> bytes:
    payload = {"path_name": "opaque_obj_0", "is_param": False, "use_pickle": True,
               "tensor_meta": None}  # fmt: skip
    return json.dumps({"config": {"thing": payload}}).encode()


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
def test_sample_inputs_are_never_read(archive: bytes, bomb: bytes, tmp_path: Path) -> None:
    images = torch.rand(3, 1, 4, 8)
    expected = opened(archive, tmp_path)(images)
    hostile = rewritten(archive, {"sample_inputs/model.pt": lambda _: bomb})
    with nothing_runs():
        found = opened(hostile, tmp_path)(images)
    assert torch.equal(found, expected)


@pytest.mark.parametrize("bomb", BOMBS.values(), ids=BOMBS)
@pytest.mark.parametrize("where", ["weights", "objects", "old weights", "compiled"])
def test_other_pickles_and_libraries_of_an_archive_are_refused(
    archive: bytes, bomb: bytes, where: str, tmp_path: Path
) -> None:
    changes, more = {
        "weights": ({"weights_config.json": _pickled, "weight_0": lambda _: bomb}, ()),
        "objects": (
            {"constants_config.json": _object},
            [("data/constants/opaque_obj_0", bomb)],
        ),
        "old weights": ({}, [("data/weights/model.pt", bomb)]),
        "compiled": ({}, [("data/aotinductor/model/net.so", bomb)]),
    }[where]
    hostile = rewritten(archive, changes, more)
    with nothing_runs(), pytest.raises(UserError, match=r"net\.pt2 is not opened"):
        opened(hostile, tmp_path)


SHELL = "__import__('os').system('true')"


@pytest.mark.parametrize(
    ("there", "hostile"),
    [
        ("Symbol('s", f"{SHELL} or Symbol('s"),  # torch evaluates shape expressions
        ('"images"', f'"images={SHELL}"'),  # and writes names into the source of a function
        ('"torch.ops.aten.conv2d.default"', '"torch.os.system"'),
        ('"torch.ops.aten.conv2d.default"', '"torch.ops.aten.save.default"'),
        ('"torch.ops.aten.conv2d.default"', '"_operator.methodcaller"'),
        ('"conv.weight"', '"conv.x\\", print(1)) #.weight"'),
        ('\\"builtins.dict\\", \\"context\\": \\"[]\\"',
         '\\"builtins.dict\\", \\"context\\": \\"[\\\\\\"x=print(1)\\\\\\"]\\"'),
    ],
)  # fmt: skip
def test_a_graph_that_would_run_python_is_refused(
    archive: bytes, there: str, hostile: str, tmp_path: Path
) -> None:
    def change(graph: bytes) -> bytes:
        assert there in graph.decode()
        return graph.decode().replace(there, hostile).encode()

    content = rewritten(archive, {"models/model.json": change})
    with nothing_runs(), pytest.raises(UserError, match=r"is not opened, since that could run"):
        opened(content, tmp_path)


def test_guards_are_never_run(archive: bytes, tmp_path: Path) -> None:
    def change(graph: bytes) -> bytes:
        return json.dumps(json.loads(graph) | {"guards_code": [SHELL]}).encode()

    with nothing_runs():
        opened(rewritten(archive, {"models/model.json": change}), tmp_path)(torch.rand(1, 1, 4, 8))


def test_one_record_twice_is_refused(archive: bytes, tmp_path: Path) -> None:
    """Readers of zip files do not agree on which of the two counts."""
    with pytest.warns(UserWarning, match="Duplicate name"):
        double = rewritten(archive, {}, [("models/model.json", b"{}")])
    with pytest.raises(UserError, match="two records of one name"):
        opened(double, tmp_path)


def test_a_bad_archive_is_one_sentence_and_no_traceback(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    empty = rewritten(b"PK\x05\x06" + bytes(18), {}, [("models/model.json", b"{}")])
    for content in (b"garbage", b"PK\x03\x04 cut", empty):
        with pytest.raises(UserError, match=r"is not a torch\.export archive") as caught:
            opened(content, tmp_path)
        assert "\n" not in str(caught.value)
    assert capfd.readouterr().err == ""


def test_a_script_that_writes_files_is_refused(tmp_path: Path) -> None:
    class Writes(nn.Module):
        def forward(self, images: torch.Tensor) -> torch.Tensor:
            torch.ops.aten.save(images, "written")
            return images

    file = io.BytesIO()
    torch.jit.save(torch.jit.script(Writes()), file)  # type: ignore[no-untyped-call]
    with pytest.raises(UserError, match="touches files"):
        load_archive(file.getvalue(), tmp_path / "net.pt")


# ------------------------------------------------------------------------------------------ bombs


def deflated(content: bytes) -> bytes:
    file = io.BytesIO()
    old, new = zipfile.ZipFile(io.BytesIO(content)), zipfile.ZipFile(file, "w")
    with old, new:
        for name in old.namelist():
            new.writestr(name, old.read(name), zipfile.ZIP_DEFLATED)
    return file.getvalue()


def test_compressed_records_are_refused_before_they_are_unpacked(
    archive: bytes, tmp_path: Path
) -> None:
    weights = tmp_path / "w.pt"
    weights.write_bytes(deflated(saved({"weight": torch.zeros(1, 1, 1, 1), "bias": torch.ones(1)})))
    with pytest.raises(UserError, match="compressed record"):
        _weights(weights)
    with pytest.raises(UserError, match="compressed record"):
        opened(deflated(archive), tmp_path)


def test_records_that_share_their_bytes_are_refused(tmp_path: Path) -> None:
    """Every record of a zip may point to the same bytes of the file."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as records:
        records.writestr("archive/data/0", bytes(10_000))
        first = records.infolist()[0]
        for number in range(1, 50):
            again = zipfile.ZipInfo(f"archive/data/{number}")
            again.CRC, again.compress_size, again.file_size = (
                first.CRC, first.compress_size, first.file_size,
            )  # fmt: skip
            again.header_offset = first.header_offset
            records.filelist.append(again)
    path = tmp_path / "w.pt"
    path.write_bytes(file.getvalue())
    with pytest.raises(ValueError, match="larger than the file"):
        load_tensors(path)
