"""Colour profiles of pictures: sRGB, or refused."""

from __future__ import annotations

from functools import lru_cache
from io import BytesIO
from pathlib import Path

import numpy as np
from PIL import Image

from segbench.data.faults import BadFileError
from segbench.data.jpeg2000 import colour_profile
from segbench.data.raster_header import GRAY16

_SAME_COLOUR = 3  # levels of 255 by which a profile may differ from sRGB and pass for it


def refuse_profile(picture: Image.Image, path: Path) -> None:
    """Refuse colours that another profile than sRGB gives another meaning.

    Raises:
        BadFileError: such a profile.
    """
    profile = picture.info.get("icc_profile")
    if picture.format == "JPEG2000":
        profile = colour_profile(path)
    if not profile or picture.mode in ("1", "L", "LA", "I", "F", *GRAY16):
        return
    if name := _foreign_profile(profile):
        raise BadFileError(
            path,
            f"carries the colour profile {name!r}, by which its numbers are not sRGB; convert it "
            "to sRGB, or take the profile out if your network has seen the bare numbers",
        )


@lru_cache(maxsize=64)
def _foreign_profile(profile: bytes) -> str:
    """The name of a profile that is not sRGB's; "" for sRGB, or where it says nothing."""
    from PIL import ImageCms

    grid = np.stack(np.meshgrid(*3 * [np.arange(0, 256, 51)]), -1).astype(np.uint8)
    colours = Image.fromarray(grid.reshape(1, -1, 3))
    try:
        own = ImageCms.ImageCmsProfile(BytesIO(profile))
        seen = ImageCms.profileToProfile(colours, own, ImageCms.createProfile("sRGB"))
        name = ImageCms.getProfileDescription(own).strip()
    except (ImageCms.PyCMSError, OSError, ValueError):
        return ""
    far = np.abs(np.asarray(seen, dtype=int) - np.asarray(colours, dtype=int)).max()
    return (name or "unnamed") if far > _SAME_COLOUR else ""
