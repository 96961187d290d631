"""Folders of transformers' ``save_pretrained``, tiny and at random: attacked as they are."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from safetensors.torch import save_file
from torch.nn import functional as F
from torch.testing import assert_close

from segbench.api import Case
from segbench.cli import main
from segbench.data import open_dataset
from segbench.data.in_memory import InMemory
from segbench.errors import UserError
from segbench.networks.adapt import adapt_network
from segbench.networks.huggingface_networks import Prompted
from segbench.networks.huggingface_processor import read_processor
from segbench.networks.imported import read_import
from segbench.networks.own_network import Scale
from segbench.networks.prompts import Prompt, draw, read_prompt
from segbench.networks.wishes import Wishes
from segbench.store.images import kept_cases, kept_cells, load_images
from segbench.store.rows import read_rows
from segbench.store.workspace import Workspace

transformers = pytest.importorskip("transformers")
DATA = "phantom-skin:size=32,train_cases=4,test_cases=2"
GRAY = "phantom-cxr:size=32,train_cases=4,test_cases=2"


def segformer(channels: int = 3) -> Any:
    config = transformers.SegformerConfig(
        num_channels=channels, num_labels=2, num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1],
        hidden_sizes=[8, 16], patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[1, 2],
        mlp_ratios=[2, 2], decoder_hidden_size=16,
    )  # fmt: skip
    return transformers.SegformerForSemanticSegmentation(config)


def mask2former() -> Any:
    backbone = transformers.SwinConfig(
        image_size=32, patch_size=2, embed_dim=8, depths=[1, 1, 1, 1], num_heads=[1, 1, 2, 2],
        window_size=4, out_features=["stage1", "stage2", "stage3", "stage4"],
    )  # fmt: skip
    config = transformers.Mask2FormerConfig(
        backbone_config=backbone, num_labels=2, hidden_dim=32, feature_size=32,
        mask_feature_size=32,
        encoder_layers=1, decoder_layers=2, num_attention_heads=2, num_queries=5,
        encoder_feedforward_dim=16, dim_feedforward=16,
    )  # fmt: skip
    return transformers.Mask2FormerForUniversalSegmentation(config)


def sam() -> Any:
    vision = transformers.SamVisionConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=64, patch_size=8,
        output_channels=16, global_attn_indexes=[0], window_size=4, mlp_dim=16, num_pos_feats=8,
    )  # fmt: skip
    prompt = transformers.SamPromptEncoderConfig(
        hidden_size=16, image_size=64, patch_size=8, mask_input_channels=4
    )
    mask = transformers.SamMaskDecoderConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, mlp_dim=16,
        iou_head_hidden_dim=16,
    )  # fmt: skip
    config = transformers.SamConfig(
        vision_config=vision.to_dict(), prompt_encoder_config=prompt.to_dict(),
        mask_decoder_config=mask.to_dict(),
    )  # fmt: skip
    return transformers.SamModel(config)


def sam2_parts() -> dict[str, Any]:
    backbone = transformers.Sam2HieraDetConfig(
        hidden_size=8, image_size=[64, 64], embed_dim_per_stage=[8, 16, 32, 64],
        blocks_per_stage=[1, 1, 2, 1], num_attention_heads_per_stage=[1, 1, 2, 2],
        window_size_per_stage=[8, 4, 4, 4], window_positional_embedding_background_size=[4, 4],
        global_attention_blocks=[3], mlp_ratio=2.0,
    )  # fmt: skip
    vision = transformers.Sam2VisionConfig(
        backbone_config=backbone.to_dict(), backbone_channel_list=[64, 32, 16, 8],
        backbone_feature_sizes=[[16, 16], [8, 8], [4, 4]], fpn_hidden_size=16,
    )  # fmt: skip
    prompt = transformers.Sam2PromptEncoderConfig(
        hidden_size=16, image_size=64, patch_size=16, mask_input_channels=4
    )
    mask = transformers.Sam2MaskDecoderConfig(
        hidden_size=16, mlp_dim=16, num_hidden_layers=1, num_attention_heads=2,
        iou_head_hidden_dim=16,
    )  # fmt: skip
    return {"vision_config": vision.to_dict(), "prompt_encoder_config": prompt.to_dict(),
            "mask_decoder_config": mask.to_dict()}  # fmt: skip


def sam2() -> Any:
    return transformers.Sam2Model(transformers.Sam2Config(**sam2_parts()))


def sam2_video() -> Any:
    config = transformers.Sam2VideoConfig(
        **sam2_parts(), image_size=64, memory_attention_hidden_size=16,
        memory_attention_num_layers=1, memory_attention_feed_forward_hidden_size=16,
        memory_attention_rope_feat_sizes=[4, 4], memory_encoder_hidden_size=16,
        memory_encoder_output_channels=8, mask_downsampler_embed_dim=16, memory_fuser_embed_dim=16,
        memory_fuser_intermediate_dim=16, memory_fuser_num_layers=1,
    )  # fmt: skip
    return transformers.Sam2VideoModel(config)


PROMPTED = {"sam": sam, "sam2": sam2}
MADE = {"segformer": segformer, "mask2former": mask2former, **PROMPTED}


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for each network, its weights at random, large enough that its labels vary."""
    root = tmp_path_factory.mktemp("hf")
    for name, make in {**MADE, "sam2_video": sam2_video}.items():
        torch.manual_seed(1)
        network = make().eval()
        for parameter in network.parameters():
            if parameter.dim() > 1:
                parameter.data = parameter.data + 0.1 * torch.randn(parameter.shape)
        network.save_pretrained(root / name)
        scale = {"do_rescale": True, "rescale_factor": 1 / 255, "do_normalize": True,
                 "image_mean": [0.4, 0.5, 0.6], "image_std": [0.2, 0.25, 0.3],
                 "do_resize": name in PROMPTED}  # fmt: skip
        (root / name / "preprocessor_config.json").write_text(json.dumps(scale))
    return root


def loaded(text: str, data: str = DATA, **said: Any) -> tuple[Any, Any]:
    dataset = open_dataset(data, None)
    reference = read_import(text, Wishes(**said))
    assert reference is not None
    return reference.load(dataset), dataset


def pixels(images: torch.Tensor) -> torch.Tensor:
    column = (1, 3, 1, 1)
    mean, std = torch.tensor([0.4, 0.5, 0.6]), torch.tensor([0.2, 0.25, 0.3])
    return (images - mean.reshape(column)) / std.reshape(column)


def test_segformer_is_enlarged_from_a_quarter_of_the_size(saved: Path) -> None:
    model, _ = loaded(f"hf:{saved / 'segformer'}")
    adapted = adapt_network(model.module, [(3, 32, 32)], model.normalization, classes=2)
    assert adapted.share == 4
    theirs = transformers.SegformerForSemanticSegmentation.from_pretrained(saved / "segformer")
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    expected = F.interpolate(
        theirs.eval()(pixels(images)).logits, (32, 32), mode="bilinear", align_corners=False
    )
    found = adapted.module(images)
    assert_close(found, expected, atol=1e-5, rtol=1e-4)
    gradients = [torch.autograd.grad(z[:, 0].square().sum(), images)[0] for z in (found, expected)]
    assert_close(*gradients, atol=1e-4, rtol=1e-3)


def test_what_its_preprocessor_does_beside_scaling_is_told_of(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "segformer"
    shutil.copytree(saved / "segformer", folder)
    assert not loaded(f"hf:{folder}")[0].said
    scale = json.loads((folder / "preprocessor_config.json").read_text())
    more = {"do_resize": True, "size": {"height": 512, "width": 512}, "do_center_crop": False,
            "crop_size": 100, "do_reduce_labels": True}  # fmt: skip
    (folder / "preprocessor_config.json").write_text(json.dumps({**scale, **more}))
    (said,) = loaded(f"hf:{folder}")[0].said
    assert "resizes images to height 512, width 512, takes label 0 for none" in said
    assert "crop" not in said


PROCESSORS = (
    "Beit", "DPT", "Eomt", "Mask2Former", "MaskFormer", "MobileNetV2", "MobileViT", "Sam", "Sam2",
    "Segformer",
)  # fmt: skip


def processed(processor: Any, colour: Sequence[int]) -> np.ndarray:
    """What it makes of a picture of one colour, somewhere in its middle."""
    picture = np.full((64, 64, 3), colour, np.uint8)
    seen = np.asarray(processor(images=picture, return_tensors="pt")["pixel_values"][0])
    seen = seen.reshape(-1, *seen.shape[-3:])[0]  # of those that cut it into squares
    found: np.ndarray = seen[:, seen.shape[1] // 2, seen.shape[2] // 2]
    return found


@pytest.mark.parametrize("left_out", [(), ("do_normalize",), ("image_mean", "image_std"),
                                      ("do_rescale", "rescale_factor")])  # fmt: skip
@pytest.mark.parametrize("given", [
    {}, {"do_normalize": True, "image_mean": [0.1, 0.2, 0.3], "image_std": [0.3, 0.2, 0.1]},
    {"do_normalize": False}, {"do_rescale": False, "image_mean": [99.0] * 3},
    {"rescale_factor": 1 / 127.5, "image_mean": [1.0] * 3, "image_std": [1.0] * 3},
])  # fmt: skip
@pytest.mark.parametrize("name", PROCESSORS)
def test_images_are_scaled_as_the_folders_own_processor_does(
    name: str, given: dict[str, Any], left_out: tuple[str, ...], tmp_path: Path
) -> None:
    """Of every class that saves one, whatever it writes and whatever it takes from its class."""
    kind = getattr(transformers, f"{name}ImageProcessor")
    file = tmp_path / "preprocessor_config.json"
    turned = {"do_flip_channel_order": False} if name == "MobileViT" else {}  # else it is refused
    kind(**turned, **given).save_pretrained(tmp_path)
    said = {k: v for k, v in json.loads(file.read_text()).items() if k not in left_out}
    file.write_text(json.dumps(said))
    found = read_processor(tmp_path, transformers)
    assert found is not None
    mean, std = (np.array(numbers) for numbers in found.scale())
    processor = kind.from_dict(said)
    for colour in ([0, 0, 0], [255, 128, 64]):
        np.testing.assert_allclose(
            (np.array(colour) / 255 - mean) / std, processed(processor, colour),
            atol=1e-4, rtol=1e-4,
        )  # fmt: skip


def test_a_processor_that_turns_channels_round_unasked_is_refused(tmp_path: Path) -> None:
    said = {"image_processor_type": "MobileViTImageProcessor"}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(said))
    found = read_processor(tmp_path, transformers)
    assert found is not None
    with pytest.raises(UserError, match="BGR"):
        found.scale()


def other_channels(folder: Path, channels: int, **scale: Any) -> Path:
    """A network of images of so many channels, and how its processor scales them."""
    segformer(channels).save_pretrained(folder)
    said = {"image_processor_type": "SegformerImageProcessor", "do_resize": False, **scale}
    (folder / "preprocessor_config.json").write_text(json.dumps(said))
    return folder


@pytest.mark.parametrize(("channels", "mean", "std"), [
    (1, [0.4], [0.2]), (1, [0.4] * 3, [0.2] * 3), (1, 0.4, 0.2), (3, [0.4], [0.2]),
    (2, [0.4, 0.5], [0.2, 0.3]), (4, [0.5, 0.4, 0.3, 0.2], [0.25] * 4),
    (4, [0.2, 0.3, 0.4, 0.5], [0.1, 0.2, 0.3, 0.4]), (4, [0.4] * 3, [0.2] * 3),
])  # fmt: skip
@pytest.mark.parametrize("wished", ["", "mean=0.1,std=0.5"])
def test_images_of_any_number_of_channels_are_scaled(
    channels: int, mean: Any, std: Any, wished: str, tmp_path: Path
) -> None:
    """As the processor's numbers say, or as ``--normalize`` does."""
    folder = other_channels(tmp_path / "net", channels, image_mean=mean, image_std=std)
    images = np.random.default_rng(0).random((2, channels, 32, 32), np.float32)
    data = InMemory(images, np.zeros((2, 32, 32), np.int64))
    reference = read_import(f"hf:{folder}", Wishes(normalize=wished))
    assert reference is not None
    found = reference.load(data)
    assert not found.said
    assert found.normalization is not None
    scale = Scale(found.normalization, 4)
    less, over = (np.resize(said, (1, channels, 1, 1)) for said in (mean, std))
    if wished:
        less, over = 0.1, 0.5
    expected = (images - less) / over
    np.testing.assert_allclose(scale(torch.from_numpy(images)), expected, atol=1e-4, rtol=1e-4)


def test_numbers_for_other_channels_than_are_shown_are_the_files(tmp_path: Path) -> None:
    folder = other_channels(tmp_path / "net", 1)  # ImageNet's three, by its class
    with pytest.raises(UserError, match=r"config\.json scales images of 3 channels") as caught:
        loaded(f"hf:{folder}", GRAY)
    assert "those that it is shown have 1; --channels changes that, or" in str(caught.value)
    assert loaded(f"hf:{folder}", GRAY, normalize="imagenet")[0].normalization is not None
    assert loaded(f"hf:{folder}", GRAY, channels="repeat")[0].normalization is not None


@pytest.mark.parametrize("said", [
    {"image_processor_type": "MobileViTImageProcessor"}, {"image_mean": [0.1, 0.2]},
    {"image_std": [-1, 1, 1]},
])  # fmt: skip
def test_a_scale_that_is_not_known_is_told_of_where_another_is_wished_for(
    said: dict[str, Any], saved: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "net"
    shutil.copytree(saved / "segformer", folder)
    _change(folder, "preprocessor_config.json", **said)
    with pytest.raises(UserError, match="; --normalize says how its images are scaled"):
        loaded(f"hf:{folder}")
    found, _ = loaded(f"hf:{folder}", normalize="imagenet")
    assert "; here its images are scaled by --normalize alone" in found.said[0]
    assert found.shown["scale"] == "imagenet"


def sam_processor(**said: Any) -> Any:
    """For images of 64 x 64."""
    size, pad = {"longest_edge": 64}, {"height": 64, "width": 64}
    made = transformers.SamImageProcessor(size=size, pad_size=pad, **said)
    return transformers.SamProcessor(made)


def test_of_two_files_that_counts_which_transformers_reads(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "sam"
    shutil.copytree(saved / "sam", folder)
    sam_processor(image_mean=[0.0] * 3, image_std=[0.05] * 3).save_pretrained(folder)
    model, _ = loaded(f"hf:{folder}")
    assert model.shown["scale"] == "mean=0,std=0.05"
    assert len(model.said) == 1
    (folder / "preprocessor_config.json").unlink()
    alone, _ = loaded(f"hf:{folder}")
    assert_close(alone.module.std.flatten(), torch.tensor([0.05]))
    (folder / "processor_config.json").unlink()
    assumed, _ = loaded(f"hf:{folder}")
    assert "ImageNet's numbers are taken" in assumed.said[1]
    assert assumed.facts["layers"] != alone.facts["layers"]


def test_a_prompted_network_answers_as_with_its_own_processor(saved: Path, tmp_path: Path) -> None:
    """From a picture to its mask, all of it transformers' own."""
    folder = tmp_path / "sam"
    shutil.copytree(saved / "sam", folder)
    (folder / "preprocessor_config.json").unlink()
    made = sam_processor(image_mean=[0.1, 0.2, 0.3], image_std=[0.5] * 3)
    made.save_pretrained(folder)
    model, dataset = loaded(f"hf:{folder}")
    whole = dataset.load(dataset.entries("test")[0].case_id)
    levels = np.round(whole.image * 255).astype(np.uint8).repeat(2, 1).repeat(2, 2)
    labels = whole.labels.repeat(2, 0).repeat(2, 1)  # 64 x 64, so that no image is resized
    case = replace(whole, image=(levels / 255).astype(np.float32), labels=labels)
    model.module.eval().meet(case)
    found = model.module(torch.from_numpy(case.image)[None])[0, 0]
    (drawn,) = draw(Prompt("box"), case)
    assert drawn is not None
    assert drawn.box is not None
    inputs = transformers.SamProcessor.from_pretrained(folder)(
        images=levels.transpose(1, 2, 0), input_boxes=[[drawn.box.tolist()]], return_tensors="pt"
    )
    theirs = transformers.SamModel.from_pretrained(folder).eval()
    with torch.no_grad():
        masks = theirs(**inputs, multimask_output=False).pred_masks[0, 0]
    expected = F.interpolate(masks[None], (64, 64), mode="bilinear")[0, 0]
    assert_close(found.detach(), expected, atol=1e-4, rtol=1e-3)


def test_a_processor_that_this_transformers_lacks_is_refused_unless_the_scale_is_said(
    saved: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "segformer"
    shutil.copytree(saved / "segformer", folder)
    _change(
        folder, "preprocessor_config.json", auto_map={"AutoImageProcessor": "evil.Evil"},
        image_processor_type="EvilImageProcessor",
    )  # fmt: skip
    _change(folder, "config.json", model_type="unheard-of")
    (folder / "evil.py").write_text("import os; os.system('touch evil')")
    with pytest.raises(UserError, match="cannot be read by transformers") as caught:
        read_processor(folder, transformers)
    assert "\n" not in str(caught.value)
    _change(folder, "config.json", model_type="segformer")
    _change(folder, "preprocessor_config.json", auto_map={}, size="large")
    with pytest.raises(UserError, match="--normalize says how"):
        loaded(f"hf:{folder}")
    model, _ = loaded(f"hf:{folder}", normalize="imagenet")
    assert "is not known" in model.said[0]
    assert not Path("evil").exists()


def test_images_cut_into_squares_are_told_of(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "segformer"
    shutil.copytree(saved / "segformer", folder)
    (folder / "preprocessor_config.json").unlink()
    eomt = transformers.EomtImageProcessor(do_split_image=True, do_resize=False)
    eomt.save_pretrained(folder)
    (said,) = loaded(f"hf:{folder}")[0].said
    assert "cuts them into squares" in said


def test_queries_become_semantic_scores(saved: Path) -> None:
    model, _ = loaded(f"hf:{saved / 'mask2former'}")
    adapted = adapt_network(model.module, [(3, 32, 32)], model.normalization, classes=2)
    theirs = transformers.Mask2FormerForUniversalSegmentation.from_pretrained(saved / "mask2former")
    images = torch.rand(2, 3, 32, 32, requires_grad=True)
    answer = theirs.eval()(pixels(images))
    masks = F.interpolate(answer.masks_queries_logits, (32, 32), mode="bilinear").sigmoid()
    weights = answer.class_queries_logits.softmax(-1)[..., :2]
    expected = sum(weights[:, q, :, None, None] * masks[:, q, None] for q in range(5))
    found = adapted.module(images)
    assert_close(found.exp(), expected, atol=1e-5, rtol=1e-4)
    gradients = [
        torch.autograd.grad(z[:, 0].sum(), images)[0]
        for z in (found, torch.log(expected))  # type: ignore[arg-type]
    ]
    assert_close(*gradients, atol=1e-4, rtol=1e-2)


@pytest.mark.parametrize("prompt", ["box", "points", "centre"])
@pytest.mark.parametrize("name", [*PROMPTED, "sam2_video"])
def test_sam_is_prompted_from_the_label_map(name: str, prompt: str, saved: Path) -> None:
    """Of an image that is no square: SAM's is padded to one, SAM 2's is stretched."""
    model, dataset = loaded(f"hf:{saved / name},prompt={prompt}")
    whole = dataset.load(dataset.entries("test")[0].case_id)
    case = replace(whole, image=whole.image[:, :24], labels=whole.labels[:24])
    model.module.eval().meet(case)
    images = torch.from_numpy(case.image)[None].requires_grad_()
    found = model.module(images)
    assert found.shape == (1, 1, 24, 32)
    kind = transformers.SamModel if name == "sam" else transformers.Sam2Model
    theirs = kind.from_pretrained(saved / name).eval()
    inner, scale = ((48, 64), [2, 2]) if name == "sam" else ((64, 64), [2, 64 / 24])
    (drawn,) = draw(Prompt(prompt), case)  # type: ignore[arg-type]
    assert drawn is not None
    asked = {}
    if drawn.box is not None:
        asked["input_boxes"] = torch.tensor(drawn.box).reshape(1, 1, 4) * torch.tensor(scale * 2)
    if drawn.points is not None:
        asked["input_points"] = torch.tensor(drawn.points)[None, None] * torch.tensor(scale)
        asked["input_labels"] = torch.ones(1, 1, len(drawn.points), dtype=torch.int)
    seen = F.interpolate(images, inner, mode="bilinear", antialias=True)
    seen = F.pad(pixels(seen), (0, 0, 0, 64 - inner[0]))
    masks = theirs(seen, multimask_output=False, **asked).pred_masks[:, 0]
    if name == "sam":
        processor, sizes = transformers.SamImageProcessor(), ([(24, 32)], [inner], 0.0, False)
        (expected,) = processor.post_process_masks([masks], *sizes, {"height": 64, "width": 64})
    else:
        processor = transformers.Sam2ImageProcessor()
        (expected,) = processor.post_process_masks([masks], [(24, 32)], binarize=False)
    assert_close(found, expected, atol=1e-4, rtol=1e-3)
    gradients = [torch.autograd.grad(z.square().sum(), images)[0] for z in (found, expected)]
    assert gradients[0].any()
    assert_close(*gradients, atol=1e-4, rtol=1e-2)


def test_sam_sees_an_image_at_the_size_of_its_own_processor() -> None:
    prompted = Prompted(torch.nn.Identity(), Prompt("box"), 64, True, [0.0], [1.0], None)
    theirs = transformers.SamImageProcessor()._get_preprocess_shape
    for height in range(8, 129):
        _, inner = prompted._pixels(torch.zeros(1, 1, height, 128))
        assert inner == theirs((height, 128), longest_edge=64)


def test_another_prompt_is_another_network(saved: Path) -> None:
    texts = [
        f"hf:{saved / 'sam'}{said}" for said in ("", ",prompt=box", ",jitter=3", ",prompt=centre")
    ]
    layers = [loaded(text)[0].facts["layers"] for text in texts]
    assert layers[0] == layers[1]
    assert len(set(layers)) == 3


@pytest.mark.parametrize("name", MADE)
def test_a_folder_is_inspected_and_attacked(name: str, saved: Path, tmp_path: Path) -> None:
    data = ["--dataset", GRAY, "--channels", "repeat", "--workspace", str(tmp_path)]
    shown = CliRunner().invoke(main, ["inspect", f"hf:{saved / name}", *data])
    assert shown.exit_code == 0, shown.output
    assert "prompt      box of each class" in shown.output or name not in PROMPTED
    done = CliRunner().invoke(main, [
        "attack", "-m", f"hf:{saved / name}", "-a", "pgd:steps=5", "--eps", "0.1", *data
    ])  # fmt: skip
    assert done.exit_code == 0, done.output
    rows = read_rows(Workspace(tmp_path))
    means = rows.groupby("attack")["accuracy"].mean()
    assert means["pgd:steps=5"] < means["clean"]
    assert set(rows["marks"]) == {""}


def _case(labels: np.ndarray) -> Case:
    image = np.zeros((3, *labels.shape), np.float32)
    return Case("a", "a", image, labels.astype(np.int64), ("background", "one", "two"))


def test_prompts_lie_where_the_class_does() -> None:
    labels = np.zeros((20, 30), int)
    labels[4:9, 10:21] = 1
    case = _case(labels)
    box, absent = draw(Prompt("box"), case)
    assert absent is None
    assert box is not None
    np.testing.assert_array_equal(box.box, [10, 4, 20, 8])
    (centre, _), (points, _) = draw(Prompt("centre"), case), draw(Prompt("points", points=7), case)
    assert labels[int(centre.points[0, 1]), int(centre.points[0, 0])] == 1  # type: ignore[index,union-attr]
    assert centre.points[0, 1] == 6  # type: ignore[index,union-attr]
    assert all(labels[int(y), int(x)] == 1 for x, y in points.points)  # type: ignore[union-attr]
    jittered, _ = draw(Prompt("box", jitter=3), case)
    again, _ = draw(Prompt("box", jitter=3), case)
    np.testing.assert_array_equal(jittered.box, again.box)  # type: ignore[union-attr]
    assert 0 < np.abs(jittered.box - box.box).max() <= 3  # type: ignore[union-attr,operator]


@pytest.mark.parametrize("kind", ["box", "points", "centre"])
def test_a_prompt_slips_the_same_way_and_further(kind: Any) -> None:
    labels = np.zeros((200, 300), int)
    labels[80:120, 100:200] = 1
    still = _case(labels)

    def where(shift: float) -> np.ndarray:
        drawn, _ = draw(Prompt(kind), replace(still, prompt_shift=shift))
        assert drawn is not None
        places = drawn.box if kind == "box" else drawn.points
        assert places is not None
        return places

    near, far = where(0.05) - where(0), where(0.1) - where(0)
    assert 0 < np.abs(near).max() <= 0.05 * 300
    np.testing.assert_allclose(far, 2 * near, atol=1)
    wild = where(1.0)  # beyond the edges: within the image, and no corner beyond its opposite
    assert (wild >= 0).all()
    assert (wild.reshape(-1, 2) < [300, 200]).all()
    if kind == "box":
        assert (wild[:2] <= wild[2:]).all()


def test_prompts_are_moved_and_images_are_not(saved: Path, tmp_path: Path) -> None:
    attack = ["-a", "corruption/prompt-jitter:severities=1+5", "--dataset", GRAY,
              "--channels", "repeat", "--workspace", str(tmp_path),
              "--save-adversarial"]  # fmt: skip
    done = CliRunner().invoke(main, ["attack", "-m", f"hf:{saved / 'sam'}", *attack])
    assert done.exit_code == 0, done.output
    kept = [
        load_images(path, [content])
        for cell in kept_cells(Workspace(tmp_path))
        for content, path in kept_cases(Workspace(tmp_path), cell.key).items()
    ]
    own: dict[str, torch.Tensor] = {}
    for case in kept:  # what the network says of a case under its own prompt is one thing
        own.setdefault(case.contents[0], case.clean_labels)
        assert torch.equal(case.clean_labels, own[case.contents[0]])
    assert len(kept) == 2 * len(own)
    assert any((case.labels != case.clean_labels).any() for case in kept)
    rows = read_rows(Workspace(tmp_path)).set_index(["attack", "budget", "case_id", "class_id"])
    moved, clean = (rows.xs(name) for name in ("corruption/prompt-jitter:severities=1+5", "clean"))
    assert (moved[["linf", "l2", "backwards"]] == 0).all(axis=None)
    assert (moved.xs(5).jaccard != clean.xs(0).jaccard).any()
    assert set(moved["marks"]) == {""}
    refused = CliRunner().invoke(main, ["attack", "-m", f"hf:{saved / 'segformer'}", *attack])
    assert refused.exit_code == 2
    assert "moves prompts" in refused.output
    assert "takes none" in " ".join(refused.output.split())


def test_what_moves_the_truth_is_refused_where_prompts_are_drawn_from_it(
    saved: Path, tmp_path: Path
) -> None:
    attack = ["-a", "worst/pose:severities=1,steps=1", "--dataset", GRAY,
              "--channels", "repeat", "--workspace", str(tmp_path)]  # fmt: skip
    refused = CliRunner().invoke(main, ["attack", "-m", f"hf:{saved / 'sam'}", *attack])
    assert refused.exit_code == 2
    assert "would stay where the truth was" in " ".join(refused.output.split())


@pytest.mark.parametrize("options", [{"prompt": "circle"}, {"jitter": "-1"}, {"points": "0"}])
def test_other_prompts_are_refused(options: dict[str, str]) -> None:
    with pytest.raises(UserError, match="=".join(next(iter(options.items())))):
        read_prompt(options)


def _change(folder: Path, name: str, **values: Any) -> None:
    path = folder / name
    content = json.loads(path.read_text()) if path.exists() else {}
    path.write_text(json.dumps(content | values))


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("config.json", {"architectures": ["BertModel"]}, "names the network BertModel"),
        ("config.json", {"architectures": ["EvilForSemanticSegmentation"]}, "does not have"),
        ("config.json", {"architectures": None}, "names the network none"),
        ("config.json", {"num_labels": 2, "decoder_hidden_size": 99}, "no weights|mismatch"),
        ("adapter_config.json", {"base_model_name_or_path": "../other"}, "is an adapter"),
        ("model.safetensors.index.json", {"weight_map": {"a": "../w.safetensors"}}, "outside the"),
        ("model.safetensors.index.json", {"weight_map": {"a": "/w.safetensors"}}, "outside the"),
        ("preprocessor_config.json", {"image_processor_type": "MobileViTImageProcessor"}, "BGR"),
        ("preprocessor_config.json", {"image_mean": "x"}, "cannot be read by transformers"),
        ("preprocessor_config.json", {"image_std": [0, 0, 0]}, "std|deviation|read by"),
        ("preprocessor_config.json", {"image_std": [-1, 1, 1]}, "does not scale images"),
    ],
)  # fmt: skip
def test_a_folder_that_is_no_network_is_refused(
    name: str, values: dict[str, Any], words: str, saved: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(saved / "segformer", folder)
    _change(folder, name, **values)
    with pytest.raises(UserError, match=words) as caught:
        loaded(f"hf:{folder}")
    assert "\n" not in str(caught.value)


def test_code_and_pickles_of_a_folder_are_not_run(saved: Path, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    shutil.copytree(saved / "segformer", folder)
    _change(folder, "config.json", auto_map={"AutoModel": "evil.Evil"}, model_type="segformer")
    (folder / "evil.py").write_text("import os; os.system('touch evil')")
    loaded(f"hf:{folder}")
    weights = folder / "model.safetensors"
    weights.rename(folder / "pytorch_model.bin")
    with pytest.raises(UserError, match="pickled weights are not read"):
        loaded(f"hf:{folder}")
    for content in (b"\xff" * 100, (1 << 40).to_bytes(8, "little") + b"{}"):
        weights.write_bytes(content)
        with pytest.raises(UserError, match="cannot be read by transformers"):
            loaded(f"hf:{folder}")
    save_file({"x": torch.zeros(1)}, weights)
    with pytest.raises(UserError, match="holds no weights"):
        loaded(f"hf:{folder}")
    assert not Path("evil").exists()


def test_volumes_and_prompts_where_none_are_taken_are_refused(saved: Path) -> None:
    with pytest.raises(UserError, match="takes no prompt"):
        loaded(f"hf:{saved / 'segformer'},prompt=box")
    with pytest.raises(UserError, match="give --channels repeat"):
        loaded(f"hf:{saved / 'sam'}", GRAY)
    with pytest.raises(UserError, match="--normalize 'zscore' is not for prompted"):
        loaded(f"hf:{saved / 'sam'}", DATA, normalize="zscore")
