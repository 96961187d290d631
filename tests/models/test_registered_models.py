"""The laws that every registered model obeys: a new one is covered by being registered."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from segbench.api import Goal
from segbench.api.marks import UNREPEATABLE
from segbench.engine.graphs import Graphed
from segbench.engine.handed import handed
from segbench.engine.network import Network
from segbench.engine.objective import NetworkObjective
from segbench.engine.precision import Precision, require_ieee_fp32
from segbench.engine.routing import unseen_share
from segbench.engine.unpooling import Pooling, Unpooling, with_places
from segbench.plugins import registry, spec
from segbench_models.padding import pad_to_multiple

# A model of another distribution brings its own tests.
NAMES = [
    n for n in registry.names("models") if registry.load("models", n).distribution == "segbench"
]
# Hyper-parameters that make a model small enough to test; a model without an entry is tested as is.
SMALL: dict[str, dict[str, Any]] = {
    "attention-unet": {"width": 4, "depth": 3},
    "cdnn": {"width": 8},
    "deeplabv3plus": {"encoder": "resnet18", "width": 8},
    "fcn8s": {"width": 4, "classifier": 16},
    "invertednet": {"width": 16},
    "nlcen": {"encoder": "resnet18", "width": 8},
    "nnunet": {"width": 4, "depth": 3},
    "nwcn": {"width": 4, "networks": 2},
    "pspnet": {"encoder": "resnet18", "width": 8},
    "segformer": {"width": 16},
    "segnet": {"width": 4},
    "segresnet": {"width": 8},
    "slsdeep": {"encoder": "resnet18", "width": 8},
    "swin-unetr": {"width": 12},
    "unet": {"width": 4, "depth": 3},
    "unet++": {"width": 4},
    "unetr": {"img_size": 48, "width": 4, "hidden": 12, "heads": 2},
}
# MONAI's own forward passes branch on shapes; the engine then takes gradients unfolded.
UNTRACEABLE = {"attention-unet", "nnunet", "segresnet", "swin-unetr", "unet++", "unetr"}
NEEDS_MEMORY = {"swin-unetr"}  # reads tensors while it is built
WITH_NLCE = [
    name
    for name in NAMES
    if "nlce" in spec.parameters(registry.load("models", name).factory) and name in SMALL
]
VARIANTS: list[tuple[str, dict[str, Any]]] = [
    *((name, SMALL.get(name, {})) for name in NAMES),
    *((name, {**SMALL[name], "nlce": True}) for name in WITH_NLCE),
    ("nlcen", {**SMALL["nlcen"], "nonlocal_": False}),
    ("nlcen", {**SMALL["nlcen"], "encoding": False}),
    ("nlcen", {**SMALL["nlcen"], "supervision": False}),
]
every_variant = pytest.mark.parametrize(
    ("name", "settings"), VARIANTS, ids=lambda v: v if isinstance(v, str) else "-".join(map(str, v))
)
every_model = pytest.mark.parametrize("name", NAMES)


def build(
    name: str, settings: dict[str, Any], channels: int = 1, classes: int = 2, spatial_dims: int = 2
) -> nn.Module:
    torch.manual_seed(0)
    factory = registry.load("models", name).factory
    model: nn.Module = factory(
        in_channels=channels, num_classes=classes, spatial_dims=spatial_dims, **settings
    )
    return model


def all_logits(output: Tensor | tuple[Tensor, list[Tensor]]) -> list[Tensor]:
    return [output] if isinstance(output, Tensor) else [output[0], *output[1]]


def unreached(model: nn.Module, gradients: Sequence[Tensor | None]) -> list[str]:
    """The parameters that training does not reach; MONAI's ViT has norms that it never uses."""
    named = zip(model.named_parameters(), gradients, strict=True)
    return [name for (name, _), g in named if g is None and ".norm_cross_attn." not in name]


def check_forward_and_backward(model: nn.Module, images: Tensor, classes: int) -> None:
    """Every output has the contract's shape; input and parameter gradients are finite, not zero."""
    images.requires_grad_()
    before = images.detach().clone()
    for mode in (True, False):
        model.train(mode)
        outputs = all_logits(model(images))
        assert mode or len(outputs) == 1
        for logits in outputs:
            assert logits.shape == (images.shape[0], classes, *images.shape[2:])
            assert logits.isfinite().all()
        # Each class pixel weighs differently: a constant loss would hide a constant softmax.
        loss = sum(((z - z.mean()) * torch.rand_like(z)).sum() for z in outputs)
        gradients = torch.autograd.grad(loss, [images, *model.parameters()], allow_unused=True)
        used = [g for g in gradients if g is not None]
        assert all(g.isfinite().all() for g in used)
        assert used[0].flatten(1).abs().amax(1).min() > 0
        assert not mode or not unreached(model, gradients[1:])
    assert torch.equal(images, before)


@every_model
@pytest.mark.parametrize(
    ("channels", "classes", "size"), [(1, 1, (32, 32)), (3, 3, (37, 45)), (4, 4, (45, 37))]
)
def test_images_of_any_channels_classes_and_size(
    name: str, channels: int, classes: int, size: tuple[int, int]
) -> None:
    model = build(name, SMALL.get(name, {}), channels, classes)
    check_forward_and_backward(model, torch.rand(2, channels, *size), classes)


@every_model
def test_volumes_of_odd_size(name: str) -> None:
    model = build(name, SMALL.get(name, {}), 2, 3, spatial_dims=3)
    check_forward_and_backward(model, torch.rand(2, 2, 9, 17, 5), 3)


@every_variant
def test_an_image_decides_nothing_without_a_gradient(name: str, settings: dict[str, Any]) -> None:
    """But where maxima lie, of which gradients are made to know."""
    model = with_places(build(name, settings).eval().requires_grad_(False))
    seen = [layer for layer in model.modules() if isinstance(layer, Pooling | Unpooling)]
    assert bool(seen) == (name == "segnet")
    assert unseen_share(lambda images: model(handed(images)), torch.rand(1, 1, 32, 32), seen) == 0


@every_variant
def test_every_variant_trains(name: str, settings: dict[str, Any]) -> None:
    check_forward_and_backward(build(name, settings), torch.rand(2, 1, 33, 40), 2)


def test_nlcen_on_bottleneck_blocks_trains() -> None:
    model = build("nlcen", {"encoder": "resnet50", "width": 8})
    check_forward_and_backward(model, torch.rand(2, 1, 33, 40), 2)


@every_model
def test_one_pixel_wide_images_have_logits(name: str) -> None:
    model = build(name, SMALL.get(name, {})).eval()
    for size in [(1, 40), (40, 1), (1, 1)]:
        assert model(torch.rand(1, 1, *size)).shape == (1, 2, *size)


@every_model
def test_an_odd_size_is_the_crop_of_its_padded_image(name: str) -> None:
    model = build(name, SMALL.get(name, {})).eval()
    images = torch.rand(1, 1, 37, 45)
    assert torch.equal(model(images), model(pad_to_multiple(images, model.stride))[..., :37, :45])


@every_variant
def test_evaluation_is_deterministic_and_independent_of_the_batch(
    name: str, settings: dict[str, Any]
) -> None:
    model = build(name, settings).eval()
    images = torch.rand(3, 1, 33, 40)
    with torch.no_grad():
        together = model(images)
        assert torch.equal(model(images), together)
        alone = torch.cat([model(image[None]) for image in images])
    assert_close(alone, together, atol=1e-5, rtol=1e-4)


@every_variant
def test_saved_and_loaded_is_identical(name: str, settings: dict[str, Any], tmp_path: Path) -> None:
    model = build(name, settings)
    images = torch.rand(2, 1, 33, 40)
    model(images)  # moves the running statistics away from their start
    state = {key: value.clone() for key, value in model.state_dict().items()}  # none shared
    safetensors.torch.save_file(state, tmp_path / "model.safetensors")
    copy = build(name, settings)
    for parameter in copy.parameters():
        nn.init.ones_(parameter)
    copy.load_state_dict(safetensors.torch.load_file(tmp_path / "model.safetensors"))
    assert torch.equal(copy.eval()(images), model.eval()(images))


@every_variant
def test_a_traced_graph_gives_the_same_logits_at_any_size(
    name: str, settings: dict[str, Any]
) -> None:
    model = build(name, settings).eval()
    if name in UNTRACEABLE:
        with pytest.raises((TypeError, ValueError, torch.fx.proxy.TraceError)):
            torch.fx.symbolic_trace(model)
        return
    traced = torch.fx.symbolic_trace(model)
    for size in [(32, 32), (33, 40)]:
        images = torch.rand(2, 1, *size)
        assert torch.equal(traced(images), model(images))


@every_model
def test_bfloat16_autocast_is_close_to_fp32(name: str) -> None:
    model = build(name, SMALL.get(name, {}))
    images = torch.rand(2, 1, 32, 32)
    for _ in range(8):
        model(images)  # settles the running statistics
    model.eval()
    exact = model(images)
    with torch.autocast("cpu", torch.bfloat16):
        rough = model(images).float()
    # In the 2-norm: where two pixels are almost equal, rounding changes which one is pooled.
    assert torch.linalg.vector_norm(rough - exact) < 0.1 * torch.linalg.vector_norm(exact)


@every_model
def test_docstring_states_the_measured_parameter_count(name: str) -> None:
    factory = registry.load("models", name).factory
    with torch.device("cpu" if name in NEEDS_MEMORY else "meta"):
        model = factory(in_channels=1, num_classes=2)
    count = sum(parameter.numel() for parameter in model.parameters())
    assert f"{count:,} parameters" in str(factory.__doc__)


@every_model
@pytest.mark.parametrize("argument", ["in_channels", "num_classes", "width"])
def test_zero_sizes_are_refused_by_name(name: str, argument: str) -> None:
    factory = registry.load("models", name).factory
    with pytest.raises(ValueError, match=f"{argument} is 0, expected"):
        factory(**{"in_channels": 1, "num_classes": 2, argument: 0})


@every_model
def test_other_dimensions_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="spatial_dims is 4, expected 2"):
        build(name, {}, spatial_dims=4)


@pytest.mark.gpu
@every_variant
@pytest.mark.parametrize("dims", [2, 3])
def test_an_accelerator_answers_as_the_cpu_does(
    name: str, settings: dict[str, Any], dims: int, device: torch.device
) -> None:
    """Logits and gradients, folded, in bf16 and recorded; and nothing that its rows would bear."""
    require_ieee_fp32()
    model = build(name, settings, spatial_dims=dims)
    images = torch.rand(3, 1, *(33, 40) if dims == 2 else (9, 17, 12))
    for _ in range(4):
        model(images)  # settles the running statistics
    exact = model.eval()(images).detach()
    network = Network("net", model, 2, device, Precision("bf16", "the test asks for it"))
    there = images.to(device)
    network.prepare(there[:2])
    # Of trilinear resizing older versions of PyTorch have no gradient that adds up in one order.
    assert network.marks == () or (dims == 3 and network.marks == (UNREPEATABLE,))
    assert_close(network.exact_logits(there).cpu(), exact, atol=1e-3, rtol=1e-3)
    objective, goal = NetworkObjective(network), Goal(*[(exact.argmax(1)).to(device)] * 2)
    first, again = (objective.value_and_grad(there, cross_entropy, goal) for _ in range(2))
    assert network.marks or torch.equal(first.gradient, again.gradient)
    module = network.copies.of(cross_entropy, goal).module
    if isinstance(module, Graphed):
        assert None not in module._recorded.values(), "it could not be recorded"


def cross_entropy(logits: Tensor, goal: Goal) -> Tensor:
    return nn.functional.cross_entropy(logits, goal.labels, reduction="none").flatten(1).sum(1)
