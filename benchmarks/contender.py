"""One contender in a process of its own: it runs once for every line it is sent.

    python contender.py NAME SETTING-AS-JSON

Answers are lines that begin with ``@``: ``ready`` or ``skipped`` with the reason, then one result
per round. Only ``peers.py`` starts it.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import asdict, replace
from typing import Any

import torch
from contenders import PEERS
from ours import attack_pgd
from setting import Setting
from torch import Tensor

from segbench.engine.precision import Policy, require_ieee_fp32
from segbench.metrics import regions

OURS: dict[str, Policy] = {"segbench": "auto", "segbench fp32": "fp32"}
WARM_UP_STEPS = 2


class Ours:
    """segbench, timed over all that `segbench attack` does."""

    def __init__(self, name: str, setting: Setting) -> None:
        self.setting, self.precision = setting, OURS[name]
        self.data = setting.data()
        self.note = ""

    def warm_up(self) -> None:
        """Once at few steps: what is imported late is imported now."""
        attack_pgd(replace(self.setting, steps=WARM_UP_STEPS), self.data, self.precision)

    def run(self) -> dict[str, Any]:
        """One round: the whole attack, and before it one of a single step."""
        short = attack_pgd(replace(self.setting, steps=1), self.data, self.precision)
        return asdict(attack_pgd(self.setting, self.data, self.precision)) | {
            "first_seconds": short.seconds,
            "first_gradients": short.gradients,
        }


class Peer:
    """A peer, timed over its attack alone: images and network are loaded and on the device."""

    def __init__(self, name: str, setting: Setting) -> None:
        self.setting, self.attack = setting, PEERS[name]
        data = setting.data()
        self.classes = len(data.dataset.class_names)
        self.network = setting.module(data)
        self.images, self.labels = setting.tensors(data)
        self.batch = 1
        self.note = ""

    def warm_up(self) -> None:
        """Choose the batch that is fastest for this contender."""
        short = replace(self.setting, steps=WARM_UP_STEPS)
        seconds = {}
        for batch in self.setting.batches:
            for _ in range(2):  # the first one warms up
                seconds[batch] = self._timed(short, batch)[0]
        self.batch = min(seconds, key=seconds.__getitem__)
        self.note = f"batch {self.batch}"

    def run(self) -> dict[str, Any]:
        """One round: the whole attack, and before it one of a single step."""
        first, _ = self._timed(replace(self.setting, steps=1), self.batch)
        seconds, found = self._timed(self.setting, self.batch)
        gradients = len(self.images) * self.setting.steps
        excess = (found - self.images).abs().amax() - self.setting.radius
        assert excess < 1e-6, f"it left its ball by {excess}"
        return {
            "seconds": seconds,
            "gradients": gradients,
            "first_seconds": first,
            "first_gradients": len(self.images),
            "jaccard": self._jaccard(found),
            "precision": "fp32",
        }

    def _timed(self, setting: Setting, batch: int) -> tuple[float, Tensor]:
        _synchronize(self.images)
        start = time.perf_counter()
        parts = [
            self.attack(self.network, images, labels, setting)
            for images, labels in zip(
                self.images.split(batch), self.labels.split(batch), strict=True
            )
        ]
        _synchronize(self.images)
        return time.perf_counter() - start, torch.cat(parts)

    def _jaccard(self, found: Tensor) -> float:
        """As tables average it: over the classes that a case has, then over the cases with any."""
        with torch.no_grad():
            predicted = torch.cat([self.network(image[None]).argmax(1) for image in found])
        scores = regions.score_regions(predicted, self.labels, self.classes)
        return float(scores.jaccard.nanmean(1).nanmean())


def _synchronize(tensor: Tensor) -> None:
    if tensor.device.type == "cuda":
        torch.cuda.synchronize(tensor.device)


def _say(**answer: Any) -> None:
    print("@" + json.dumps(answer), flush=True)


def main() -> None:
    """Make the contender, then one round per line."""
    name = sys.argv[1]
    setting = Setting(**json.loads(sys.argv[2]))
    require_ieee_fp32()
    try:
        contender: Ours | Peer = (Ours if name in OURS else Peer)(name, setting)
        contender.warm_up()
    except ImportError as error:
        _say(skipped=str(error))
        return
    _say(ready=contender.note)
    for _ in sys.stdin:
        _say(**contender.run())


if __name__ == "__main__":
    main()
