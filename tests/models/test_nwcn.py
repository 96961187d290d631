"""What is NWCN's own: networks trained one after the other, each fed by the one before."""

import torch
from torch import nn
from torch.testing import assert_close

from segbench.api import BringsStages
from segbench_models import nwcn


def small(networks: int = 3) -> nwcn.NWCN:
    torch.manual_seed(0)
    return nwcn.build(in_channels=1, num_classes=2, width=4, networks=networks)


def test_a_stage_trains_its_own_network_and_no_other_parameter_or_statistic() -> None:
    model = small()
    assert isinstance(model, BringsStages)
    for number, stage in enumerate(model.stages()):
        model.enter_stage(stage)
        model.train()
        before = {name: value.clone() for name, value in model.state_dict().items()}
        trainable = [p for p in model.parameters() if p.requires_grad]
        optimizer = torch.optim.SGD(trainable, lr=1e-3)
        model(torch.rand(2, 1, 16, 16)).square().mean().backward()
        optimizer.step()
        moved = {
            name for name, value in model.state_dict().items() if (value != before[name]).any()
        }
        assert moved
        assert all(name.startswith(f"networks.{number}.") for name in moved)


def test_within_a_stage_the_networks_behind_it_are_not_there() -> None:
    model = small()
    model.enter_stage("network 1")
    model.eval()
    images = torch.rand(1, 1, 16, 16)
    assert torch.equal(model(images), model.networks[0](model.normalize(images)))


def test_a_network_sees_the_image_and_the_probabilities_before_it() -> None:
    model = small(networks=2).eval()
    seen: list[torch.Tensor] = []
    model.networks[1].register_forward_pre_hook(lambda _m, inputs: seen.append(inputs[0]))
    images = torch.rand(1, 1, 16, 16)
    model(images)
    normalized = model.normalize(images)
    probabilities = model.networks[0](normalized).softmax(1)
    assert_close(seen[0], torch.cat([normalized, probabilities], 1))


def test_after_the_last_stage_the_whole_chain_has_a_gradient() -> None:
    model = small()
    model.enter_stage("network 3")
    model.eval()
    images = torch.rand(1, 1, 16, 16, requires_grad=True)
    first = model.networks[0]
    assert isinstance(first, nn.Module)
    answers: list[torch.Tensor] = []
    first.register_forward_hook(lambda _m, _i, out: answers.append(out))
    logits = model(images)
    (gradient,) = torch.autograd.grad(logits.square().sum(), answers[0])
    assert gradient.abs().sum() > 0
