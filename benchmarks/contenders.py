"""The peers: L-infinity PGD of the same steps on the same network, as each library's users run it.

A contender maps (network, images, labels, setting) to adversarial images; images are (B, C,
*spatial) in [0, 1], labels int64 (B, *spatial). All but ART start at random in the ball; all
ascend cross-entropy; the network is in evaluation mode, its weights as a checkpoint leaves them.
"""

from __future__ import annotations

import importlib.util
import sys
import types
from collections.abc import Callable
from importlib.metadata import distribution
from typing import Any

import numpy as np
import torch
from setting import Setting
from torch import Tensor, nn
from torch.nn import functional as F

Contender = Callable[[nn.Module, Tensor, Tensor, Setting], Tensor]


def hand(network: nn.Module, images: Tensor, labels: Tensor, setting: Setting) -> Tensor:
    """The loop that people write: backward, the sign of ``.grad``, two clamps."""
    eps, step = setting.radius, setting.rel_step * setting.radius
    adversarial = (images + torch.empty_like(images).uniform_(-eps, eps)).clamp(0, 1)
    for _ in range(setting.steps):
        adversarial = adversarial.detach().requires_grad_()
        loss = F.cross_entropy(network(adversarial), labels)
        network.zero_grad()
        loss.backward()
        assert adversarial.grad is not None
        adversarial = adversarial.detach() + step * adversarial.grad.sign()
        adversarial = images + (adversarial - images).clamp(-eps, eps)
        adversarial = adversarial.clamp(0, 1)
    return adversarial


def torchattacks(network: nn.Module, images: Tensor, labels: Tensor, setting: Setting) -> Tensor:
    """torchattacks.PGD takes dense labels as it is."""
    from torchattacks import PGD

    step = setting.rel_step * setting.radius
    attack = PGD(network, eps=setting.radius, alpha=step, steps=setting.steps)
    found: Tensor = attack(images, labels)
    return found


def art(network: nn.Module, images: Tensor, labels: Tensor, setting: Setting) -> Tensor:
    """ART's numpy PGD, from the clean image: ART starts only classifiers at random."""
    from art.attacks.evasion import ProjectedGradientDescent
    from art_estimator import Segmentation

    attack = ProjectedGradientDescent(
        Segmentation(network, images),
        norm=np.inf,
        eps=setting.radius,
        eps_step=setting.rel_step * setting.radius,
        max_iter=setting.steps,
        batch_size=len(images),
        verbose=False,
    )
    found = attack.generate(x=images.cpu().numpy(), y=labels.cpu().numpy())
    return torch.from_numpy(found).to(images.device)


def foolbox(network: nn.Module, images: Tensor, labels: Tensor, setting: Setting) -> Tensor:
    """foolbox's PGD with a dense loss, which its users may override; ``run`` skips its criteria."""
    from eagerpy import TensorType, astensor
    from foolbox import PyTorchModel
    from foolbox.attacks import LinfProjectedGradientDescentAttack
    from foolbox.criteria import Misclassification

    class DensePGD(LinfProjectedGradientDescentAttack):
        def get_loss_fn(self, model: Any, labels: Any) -> Callable[[TensorType], TensorType]:
            return lambda x: astensor(F.cross_entropy(model(x).raw, labels.raw, reduction="sum"))

    attack = DensePGD(rel_stepsize=setting.rel_step, steps=setting.steps, random_start=True)
    model = PyTorchModel(network, bounds=(0, 1), device=images.device)
    found: Tensor = attack.run(
        model, images, Misclassification(astensor(labels)), epsilon=setting.radius
    )
    return found


def advlib(network: nn.Module, images: Tensor, labels: Tensor, setting: Setting) -> Tensor:
    """adv-lib's PGD, which knows one label per image: the loss L comes to it as logits [-L, 0].

    The cross-entropy of label 0 is then log(1 + exp(L)), which grows with L; gradient signs agree.
    """
    _without_visdom()
    folder = distribution("adv-lib").locate_file("adv_lib/attacks/projected_gradient_descent.py")
    spec = importlib.util.spec_from_file_location("adv_lib_pgd", str(folder))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)

    def two_logits(adversarial: Tensor) -> Tensor:
        loss = F.cross_entropy(network(adversarial), labels, reduction="none").flatten(1).mean(1)
        return torch.stack([-loss, torch.zeros_like(loss)], 1)

    first = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    found: Tensor = module.pgd_linf(
        two_logits,
        images,
        first,
        setting.radius,
        steps=setting.steps,
        relative_step_size=setting.rel_step,
    )
    return found


def cospgd(network: nn.Module, images: Tensor, labels: Tensor, setting: Setting) -> Tensor:
    """cospgd's own steps in the loop of its README, with plain cross-entropy as the loss."""
    from cospgd import functions

    eps, step = setting.radius, setting.rel_step * setting.radius
    adversarial = functions.init_linf(images, eps)
    for _ in range(setting.steps):
        adversarial.requires_grad_()
        loss = F.cross_entropy(network(adversarial), labels)
        loss.backward()
        adversarial = functions.step_inf(
            perturbed_image=adversarial,
            epsilon=eps,
            data_grad=adversarial.grad,
            orig_image=images,
            alpha=step,
            targeted=False,
        )
    return adversarial.detach()


def _without_visdom() -> None:
    """An empty ``visdom``, and no other part of adv-lib, whose package needs torchvision.

    Its PGD file needs neither: visdom's name stands in an annotation only. Said in the README.
    """
    sys.modules.setdefault("visdom", types.ModuleType("visdom"))


PEERS: dict[str, Contender] = {
    "hand loop": hand,
    "torchattacks": torchattacks,
    "ART": art,
    "foolbox": foolbox,
    "adv-lib": advlib,
    "cospgd": cospgd,
}
