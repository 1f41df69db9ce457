"""Converts the pixels of a decoded picture to 8-bit sRGB: depths, transparency, CMYK, Lab and colour profiles."""

import io
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageChops, ImageCms

Pixels = npt.NDArray[np.uint8]
ToRgb = Callable[[Image.Image], Pixels]
"""Converts a horizontal strip of a picture, with the mode of the picture, to (height, width, 3) pixels."""
BACKGROUND = (255, 255, 255, 255)
"""Colour behind transparent pixels, whose own colours are arbitrary."""
MAX_16_BIT = 65535
PROFILED = {"L": "L", "RGB": "RGB", "CMYK": "CMYK", "P": "RGB", "1": "L"}
"""Mode in which a colour profile applies, by the mode of the picture."""
MAX_PROFILE_BYTES = 4 * 1024**2
SRGB = ImageCms.createProfile("sRGB")
LAB = ImageCms.createProfile("LAB")


def converter(picture: Image.Image) -> ToRgb:
    """Returns the conversion of a loaded picture.

    The whole picture decides about it, so that all of its strips are converted alike.
    """
    mode = picture.mode
    if mode.startswith("I") or mode == "F":
        return _from_numbers(picture)
    if mode == "LAB":
        transform = ImageCms.buildTransform(LAB, SRGB, "LAB", "RGB")
        return lambda strip: _pixels(_applied(transform, strip))
    profile = picture.info.get("icc_profile")
    if picture.has_transparency_data:
        visible = profile_transform(profile, "RGB")
        if visible is None:
            return lambda strip: np.asarray(_over_background(strip))
        return lambda strip: _pixels(_applied(visible, _over_background(strip)))
    inverted = mode == "CMYK" and picture.format in ("JPEG", "MPO") and "adobe" not in picture.info
    to_srgb = profile_transform(profile, PROFILED.get(mode))

    def convert(strip: Image.Image) -> Pixels:
        if inverted:  # Pillow assumes Adobe's convention, also without Adobe's marker
            strip = ImageChops.invert(strip)
        if to_srgb is None:
            return _pixels(strip)
        return _pixels(_applied(to_srgb, strip if strip.mode == PROFILED[mode] else strip.convert(PROFILED[mode])))

    return convert


def profile_transform(profile: bytes | None, mode: str | None) -> ImageCms.ImageCmsTransform | None:
    """Returns the transformation of an ICC profile to sRGB.

    None: there is no profile, it is sRGB, it cannot be used, or it does not belong to this mode of pixels.
    """
    if profile is None or mode is None or len(profile) > MAX_PROFILE_BYTES:
        return None
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(profile))
        if "srgb" in ImageCms.getProfileDescription(source).lower():
            return None
        return ImageCms.buildTransform(source, SRGB, mode, "RGB")
    except (ImageCms.PyCMSError, OSError, ValueError, TypeError):
        return None


def to_srgb_in_place(pixels: Pixels, profile: bytes | None) -> None:
    """Converts RGB pixels, (height, width, 3), from a colour profile to sRGB."""
    transform = profile_transform(profile, "RGB")
    if transform is not None:
        pixels[:] = np.asarray(_applied(transform, Image.fromarray(pixels)))


def _applied(transform: ImageCms.ImageCmsTransform, strip: Image.Image) -> Image.Image:
    result = ImageCms.applyTransform(strip, transform)
    assert result is not None  # only `inPlace` returns None
    return result


def _pixels(strip: Image.Image) -> Pixels:
    return np.asarray(strip.convert("RGB"))


def _over_background(strip: Image.Image) -> Image.Image:
    colours = strip.convert("RGBA")
    background = Image.new("RGBA", colours.size, BACKGROUND)
    return Image.alpha_composite(background, colours).convert("RGB")


def _from_numbers(picture: Image.Image) -> ToRgb:
    """Converts greyscale of 16 or 32 bits, or floating point values from 0 to 1, 255 or 65535."""
    highest = float(np.nanmax(np.asarray(picture, np.float32), initial=0))
    if picture.mode == "F":
        white = 1.0 if highest <= 1 else 255.0 if highest <= 255 else max(highest, MAX_16_BIT)
    else:
        white = float(MAX_16_BIT) if highest <= MAX_16_BIT else float(2**31 - 1)

    def convert(strip: Image.Image) -> Pixels:
        values = np.nan_to_num(np.asarray(strip, np.float32)) * np.float32(255 / white)
        grey = values.clip(0, 255).astype(np.uint8)
        return np.repeat(grey[..., None], 3, axis=2)

    return convert
