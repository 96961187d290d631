"""What the user says of networks of their own, beside where they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from segbench.networks.channels import Channels

Resize = Literal["bilinear", "bicubic", "nearest"]
Tta = Literal["flips"]


@dataclass(frozen=True)
class Wishes:
    """The options of networks of the user's own; each is left alone where it is not given.

    Attributes:
        normalize: what they expect of their images, see ``normalize.py``.
        channels: how images are brought to their channel count, see ``channels.py``.
        output: which tensor of their answer is the prediction, see ``answers.py``.
        tta: what every image is also shown as; the mean of the answers counts.
        front: what every image passes before any network sees it, see ``fronted.py``.
        resize_logits: how answers smaller than the images are enlarged.
    """

    normalize: str = ""
    channels: Channels | None = None
    output: str = ""
    resize_logits: Resize | None = None
    tta: Tta | None = None
    front: str = ""

    def given(self) -> dict[str, str]:
        """Those that are given, as they are written: option -> value."""
        options = {
            "--normalize": self.normalize,
            "--channels": self.channels,
            "--output": self.output,
            "--resize-logits": self.resize_logits,
        }
        return {option: value for option, value in options.items() if value}


NO_WISHES = Wishes()
