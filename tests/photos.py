"""Photos of people from installed packages, and functions that modify and encode them."""

import base64
import io
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pillow_heif
from PIL import Image

from service.demo.photos import packaged_cast

CAST = packaged_cast()
COLLINS, HOPPER, TRAINER = (CAST.people[index].enrolled[0] for index in (0, 1, 2))
BUS = CAST.strangers[0]


def pixels(path: Path) -> np.ndarray:
    """Returns the (height, width, 3) uint8 RGB pixels of a picture file."""
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def encoded(picture: np.ndarray | Image.Image, kind: str = "JPEG", **options: object) -> bytes:
    """Returns the bytes of a picture file in a format of Pillow, or in HEIF. `options` are those of the encoder."""
    image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
    buffer = io.BytesIO()
    if kind == "HEIF":
        pillow_heif.from_pillow(image).save(buffer, **options)
    else:
        image.save(buffer, kind, **options)
    return buffer.getvalue()


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def brighter(path: Path, factor: float) -> bytes:
    """Returns a JPEG file with the pixel values of a picture multiplied by `factor`."""
    return encoded((pixels(path).astype(np.float32) * factor).clip(0, 255).astype(np.uint8), quality=92)


def zipped(files: Mapping[str, bytes]) -> bytes:
    """Returns a ZIP archive of files by name."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return buffer.getvalue()
