"""Checkpoints: what is saved is what is loaded, and nothing else is ever taken for it."""

import datetime
import hashlib
import os
import pickle
import warnings
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import nn

from segbench.errors import UserError
from segbench.plugins import registry
from segbench.store.workspace import Workspace
from segbench.training.card import (
    BEST_FILE,
    CARD_FILE,
    LAST_FILE,
    Card,
    checkpoint_name,
    difference,
    find_checkpoints,
    load_card,
)
from segbench.training.checkpoint import load_checkpoint, save_checkpoint
from segbench.training.recipes import load_recipe
from segbench.training.weights import load_weights


def build_tiny(
    *,
    in_channels: int,
    num_classes: int,
    spatial_dims: int = 2,
    width: int = 4,
    start_weights: str = "",
) -> nn.Module:
    if start_weights and not Path(start_weights).exists():
        raise ValueError(f"{start_weights} is gone")
    return nn.Sequential(
        nn.Conv2d(in_channels, width, 3, padding=1).to(memory_format=torch.channels_last),
        nn.BatchNorm2d(width),
        nn.Conv2d(width, num_classes, 1),
    )


@pytest.fixture(autouse=True)
def tiny_model(monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = registry.Plugin("models", "tiny", build_tiny, "segbench", "0")
    monkeypatch.setattr(registry, "load", lambda kind, name: plugin)


def make_card(**changes: object) -> Card:
    values = {
        "model": "tiny",
        "parameters": {"width": 4, "start_weights": ""},
        "in_channels": 1,
        "num_classes": 2,
        "spatial_dims": 2,
        "class_names": ("background", "thing"),
        "dataset": "folder",
        "dataset_spec": "folder",
        "dataset_fingerprint": "0" * 64,
        "split": "train",
        "train_cases": ("a", "b"),
        "validation_cases": ("c",),
        "recipe": load_recipe("quick", "folder"),
        "seed": 0,
        "plugin": "segbench",
        "best_epoch": 1,
        "best_jaccard": 0.5,
        "last_jaccard": 0.5,
        "history": (),
        "versions": {},
        "hardware": "none",
        "precision": "fp32",
        "created": datetime.datetime.now(datetime.UTC).isoformat(),
        "seconds": 1.0,
    }
    return Card.model_validate({**values, **changes})


@pytest.fixture
def saved(tmp_path: Path) -> tuple[Path, nn.Module]:
    folder = tmp_path / "models" / checkpoint_name("tiny", "folder", 0)
    network = build_tiny(in_channels=1, num_classes=2)
    save_checkpoint(folder, network.state_dict(), network.state_dict(), make_card())
    return folder, network.eval()


def test_saved_then_loaded_gives_identical_logits_in_evaluation_mode(
    saved: tuple[Path, nn.Module],
) -> None:
    folder, network = saved
    loaded, card = load_checkpoint(folder)
    images = torch.rand(2, 1, 9, 7)
    assert not loaded.training
    assert torch.equal(loaded(images), network(images))
    assert card.model_copy(update={"weights_sha256": "", "created": ""}) == make_card(created="")


def test_any_changed_byte_of_the_weights_is_noticed(saved: tuple[Path, nn.Module]) -> None:
    folder, _ = saved
    content = bytearray((folder / BEST_FILE).read_bytes())
    content[-1] ^= 1
    (folder / BEST_FILE).write_bytes(content)
    with pytest.raises(UserError, match="is not the file its card describes"):
        load_checkpoint(folder)


def test_what_is_hashed_is_what_is_loaded(
    saved: tuple[Path, nn.Module], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another training replaces the file as soon as it has been hashed."""
    folder, network = saved
    other = {name: value + 1 for name, value in network.state_dict().items()}
    own = (folder / BEST_FILE).read_bytes()

    def and_replace(digest: Callable[..., object]) -> Callable[..., object]:
        def wrapped(*given: object) -> object:
            found = digest(*given)
            if given[:1] != (own,):  # the card's
                return found
            save_file({k: v.contiguous() for k, v in other.items()}, folder / BEST_FILE)
            return found

        return wrapped

    monkeypatch.setattr(hashlib, "sha256", and_replace(hashlib.sha256))
    loaded, _ = load_checkpoint(folder)
    assert all(torch.equal(loaded.state_dict()[k], v) for k, v in network.state_dict().items())
    with pytest.raises(UserError, match="is not the file its card describes"):
        load_checkpoint(folder)  # it really was replaced


def test_a_truncated_checkpoint_is_refused(saved: tuple[Path, nn.Module]) -> None:
    folder, _ = saved
    content = (folder / BEST_FILE).read_bytes()
    (folder / BEST_FILE).write_bytes(content[: len(content) // 2])
    with pytest.raises(UserError, match="truncated or was replaced"):
        load_checkpoint(folder)


class _Bomb:
    """Creates a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[[str], object], tuple[str]]:
        return (_explode, (str(self.path),))


def _explode(path: str) -> None:
    Path(path).touch()


def test_a_pickle_dressed_as_a_checkpoint_is_never_unpickled(
    saved: tuple[Path, nn.Module], tmp_path: Path
) -> None:
    folder, _ = saved
    bomb = pickle.dumps(_Bomb(tmp_path / "exploded"))
    (folder / BEST_FILE).write_bytes(bomb)
    with pytest.raises(UserError, match="is not the file its card describes"):
        load_checkpoint(folder)
    for name in ("w.safetensors", "w.pt", "w.pth"):
        (tmp_path / name).write_bytes(bomb)
        with pytest.raises(UserError, match="not unpickled"):
            load_weights(build_tiny(in_channels=1, num_classes=2), tmp_path / name)
    torch.save({"weight": torch.zeros(1), "bomb": _Bomb(tmp_path / "exploded")}, tmp_path / "z.pt")
    with pytest.raises(UserError, match="not unpickled"):
        load_weights(build_tiny(in_channels=1, num_classes=2), tmp_path / "z.pt")
    assert not (tmp_path / "exploded").exists()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "no readable card.json"),
        ("{", "not a card of schema version 1"),
        ('{"schema_version": 2}', "not a card of schema version 1"),
    ],
)
def test_a_folder_without_a_good_card_is_no_checkpoint(
    saved: tuple[Path, nn.Module], text: str | None, words: str
) -> None:
    folder, _ = saved
    (folder / CARD_FILE).unlink()
    if text is not None:
        (folder / CARD_FILE).write_text(text)
    with pytest.raises(UserError, match=words):
        load_checkpoint(folder)


def test_missing_weights_and_another_architecture_are_named(
    saved: tuple[Path, nn.Module],
) -> None:
    folder, network = saved
    save_checkpoint(
        folder, network.state_dict(), network.state_dict(), make_card(parameters={"width": 5})
    )
    with pytest.raises(UserError, match=r"of another shape \(0.bias \(4,\), not \(5,\)"):
        load_checkpoint(folder)
    (folder / BEST_FILE).unlink()
    with pytest.raises(UserError, match=f"has no {BEST_FILE}"):
        load_checkpoint(folder)
    save_checkpoint(
        folder, network.state_dict(), network.state_dict(), make_card(parameters={"depth": 5})
    )
    with pytest.raises(UserError, match=r"cannot be built: .*depth"):
        load_checkpoint(folder)


def test_initial_weights_need_not_be_at_hand_any_more(saved: tuple[Path, nn.Module]) -> None:
    folder, network = saved
    card = make_card(parameters={"width": 4, "start_weights": "gone.safetensors"})
    save_checkpoint(folder, network.state_dict(), network.state_dict(), card)
    images = torch.rand(1, 1, 8, 8)
    assert torch.equal(load_checkpoint(folder)[0](images), network(images))


def test_best_and_last_weights_are_kept_apart(tmp_path: Path) -> None:
    best, last = (build_tiny(in_channels=1, num_classes=2) for _ in range(2))
    save_checkpoint(tmp_path / "c", best.state_dict(), last.state_dict(), make_card())
    loaded, _ = load_checkpoint(tmp_path / "c")
    assert torch.equal(loaded[0].weight, best[0].weight)
    load_weights(loaded, tmp_path / "c" / LAST_FILE)
    assert torch.equal(loaded[0].weight, last[0].weight)


def test_only_finished_checkpoints_are_found(saved: tuple[Path, nn.Module], tmp_path: Path) -> None:
    folder, _ = saved
    (tmp_path / "models" / "unfinished").mkdir()
    assert find_checkpoints(Workspace(tmp_path)) == [folder]
    assert find_checkpoints(Workspace(tmp_path / "nowhere")) == []


def test_a_card_survives_its_file_unchanged(saved: tuple[Path, nn.Module]) -> None:
    card = load_card(saved[0])
    assert Card.model_validate_json(card.model_dump_json()) == card


def test_no_flipped_bit_of_a_card_goes_unseen(saved: tuple[Path, nn.Module]) -> None:
    """One bit of every fifth byte: refused by name, or nothing that it says is another."""
    path, card = saved[0] / CARD_FILE, load_card(saved[0])
    content = path.read_bytes()
    for place in range(0, len(content), 5):
        path.write_bytes(
            content[:place] + bytes([content[place] ^ 1 << place % 8]) + content[place + 1 :]
        )
        found, said = card, ""
        try:
            found = load_card(saved[0])
        except UserError as error:
            said = str(error)
        assert found == card
        assert not said or saved[0].name in said


def test_a_card_without_a_checksum_is_an_older_one(saved: tuple[Path, nn.Module]) -> None:
    card = load_card(saved[0])
    (saved[0] / CARD_FILE).write_text(card.model_dump_json(indent=2))
    assert load_card(saved[0]) == card


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"seed": 1}, "seed is 1, not 0"),
        ({"parameters": {"width": 8}}, "parameters.width is 8, not 4"),
        ({"train_cases": ("a",)}, "train_cases are others"),
        ({"recipe": load_recipe("quick", "folder", {"epochs": 1})}, "recipe.epochs is 1, not"),
    ],
)
def test_two_trainings_differ_by_what_determines_the_weights(
    change: dict[str, object], words: str
) -> None:
    assert difference(make_card(), make_card(**change)).startswith(words)
    assert difference(make_card(), make_card(seconds=9.0, hardware="other")) is None


# ----------------------------------------------------------------------------- a user's own files


def own_file(path: Path, state: dict[str, torch.Tensor], form: str) -> Path:
    prefixed = {f"module.{name}": value for name, value in state.items()}
    contents = {
        "plain": state,
        "state_dict": {"state_dict": state, "epoch": 3},
        "model": {"model": state, "lr": 0.1},
        "parallel": prefixed,
        "both": {"state_dict": prefixed},
    }
    torch.save(contents[form], path)
    return path


@pytest.mark.parametrize("form", ["plain", "state_dict", "model", "parallel", "both"])
@pytest.mark.parametrize("suffix", [".pt", ".pth"])
def test_own_weights_are_loaded_however_they_are_wrapped(
    tmp_path: Path, form: str, suffix: str
) -> None:
    source, target = (build_tiny(in_channels=1, num_classes=2) for _ in range(2))
    path = own_file(tmp_path / f"w{suffix}", source.state_dict(), form)
    quiet = form in ("plain", "parallel", "both")
    with nullcontext() if quiet else pytest.warns(UserWarning, match="ignored"):
        load_weights(target, path)
    assert all(torch.equal(target.state_dict()[k], v) for k, v in source.state_dict().items())


def test_own_weights_that_do_not_fit_are_counted_and_named(tmp_path: Path) -> None:
    network = build_tiny(in_channels=1, num_classes=2)
    before = {k: v.clone() for k, v in network.state_dict().items()}
    state = dict(network.state_dict())
    state["extra"] = state.pop("0.bias") + 1
    state["2.weight"] = torch.zeros(3, 4, 1, 1)
    save_file({k: v.contiguous() for k, v in state.items()}, tmp_path / "w.safetensors")
    with pytest.raises(UserError, match="do not fit") as caught:
        load_weights(network, tmp_path / "w.safetensors")
    for words in (
        "1 missing (0.bias)",
        "1 unexpected (extra)",
        "2.weight (3, 4, 1, 1), not (2, 4, 1, 1)",
    ):
        assert words in str(caught.value)
    assert all(torch.equal(before[k], v) for k, v in network.state_dict().items())


@pytest.mark.parametrize("name", ["w.safetensors", "w.pt"])
@pytest.mark.parametrize("content", [b"", b"hello", b"PK\x03\x04 cut short", None])
def test_an_unreadable_file_is_one_sentence(
    tmp_path: Path, name: str, content: bytes | None
) -> None:
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=name) as caught:
        load_weights(build_tiny(in_channels=1, num_classes=2), tmp_path / name)
    assert "\n" not in str(caught.value)


@pytest.mark.filterwarnings("ignore:.*torch.jit.*:DeprecationWarning")
def test_torchscript_and_bare_tensors_are_no_state_dicts(tmp_path: Path) -> None:
    network = build_tiny(in_channels=1, num_classes=2)
    torch.jit.script(nn.Conv2d(1, 1, 1)).save(str(tmp_path / "script.pt"))
    torch.save(torch.zeros(3), tmp_path / "bare.pt")
    for name in ("script.pt", "bare.pt"):
        with pytest.raises(UserError, match=name) as caught:
            load_weights(network, tmp_path / name)
        assert "\n" not in str(caught.value)


def stranger(state: dict[str, torch.Tensor], kind: str) -> torch.Tensor:
    weight = state["0.weight"]
    quantized = torch.quantize_per_tensor(weight.contiguous(), 0.1, 0, torch.qint8)
    return {
        "bool": weight > 0,
        "int64": weight.long(),
        "uint8": weight.byte(),
        "complex64": weight.to(torch.complex64),
        "sparse": weight.to_sparse(),
        "quantized": quantized,
        "meta": weight.to("meta"),
    }[kind]


@pytest.mark.parametrize(
    "kind", ["bool", "int64", "uint8", "complex64", "sparse", "quantized", "meta"]
)
def test_weights_of_another_kind_are_refused_and_not_cast(tmp_path: Path, kind: str) -> None:
    network = build_tiny(in_channels=1, num_classes=2)
    state = dict(network.state_dict())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of what it will quantize no more
        state["0.weight"] = stranger(state, kind)
    torch.save(state, tmp_path / "w.pt")
    with pytest.raises(UserError, match=rf"1 of another kind \(0\.weight .*{kind}"):
        load_weights(network, tmp_path / "w.pt")


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_width_are_said(tmp_path: Path, dtype: torch.dtype) -> None:
    source, target = (build_tiny(in_channels=1, num_classes=2) for _ in range(2))
    state = {k: v.to(dtype) if v.is_floating_point() else v for k, v in source.state_dict().items()}
    torch.save(state, tmp_path / "w.pt")
    with pytest.warns(UserWarning, match=rf"w\.pt are {str(dtype)[6:]}; .* computes in float32"):
        load_weights(target, tmp_path / "w.pt")
    assert torch.equal(target.state_dict()["0.weight"], state["0.weight"].float())


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", ["w.pt", "w.safetensors"])
def test_a_named_pipe_is_not_waited_for(
    saved: tuple[Path, nn.Module], tmp_path: Path, name: str
) -> None:
    os.mkfifo(tmp_path / name)
    with pytest.raises(UserError, match="it is a named pipe; expected a regular file"):
        load_weights(build_tiny(in_channels=1, num_classes=2), tmp_path / name)
    for file, words in ((BEST_FILE, "named pipe"), (CARD_FILE, "no readable card.json")):
        (saved[0] / file).unlink()
        os.mkfifo(saved[0] / file)
        with pytest.raises(UserError, match=words):
            load_checkpoint(saved[0])


# ------------------------------------------------------------------------------------------ names

specs = st.builds(
    lambda name, params: (
        name + (":" + ",".join(f'{k}="{v}"' for k, v in params.items()) if params else "")
    ),
    st.from_regex(r"[a-z]{1,6}(/[a-z]{1,4})?", fullmatch=True),
    st.dictionaries(
        st.from_regex(r"[a-z_]{1,5}", fullmatch=True),
        st.text(st.characters(exclude_characters='"', exclude_categories=["Cs"]), max_size=40),
        max_size=3,
    ),
)


@given(specs, specs)
def test_a_folder_name_is_legal_everywhere_and_short(model: str, data: str) -> None:
    name = checkpoint_name(model, data, 7)
    assert not set(name) & set('<>:"/\\|?* \t\n')
    assert name.isascii()
    assert name.isprintable()
    assert len(name) < 200
    assert name.endswith("#7")
    assert name.count("@") == name.count("#") == 1


@pytest.mark.parametrize(
    ("model", "data", "name"),
    [
        ("unet", "jsrt", "unet@jsrt#0"),
        ("unet:width=16", "jsrt", "unet-width=16@jsrt#0"),
        ("unet:width=16,depth=3", "jsrt", "unet-depth=3,width=16@jsrt#0"),
        ("monai/SwinUNETR:feature_size=24", "jsrt", "monai+SwinUNETR-feature_size=24@jsrt#0"),
    ],
)
def test_a_folder_name_can_be_read(model: str, data: str, name: str) -> None:
    assert checkpoint_name(model, data, 0) == name


def test_specs_that_lose_characters_or_are_long_still_have_names_of_their_own() -> None:
    long = "x" * 200
    texts = ['m:a="b c"', 'm:a="b*c"', "m:a=b_c", f"m:a={long}", f"m:a={long}y"]
    assert len({checkpoint_name(text, "jsrt", 0) for text in texts}) == len(texts)
