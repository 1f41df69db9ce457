"""Small pictures inside HTML."""

import base64
import io

import numpy as np
from PIL import Image

from service.live.recognition import Sample
from service.vision.alignment import crop_box
from service.vision.image import Pixels


def as_data_url(pixels: Pixels) -> str:
    """Returns a picture, (height, width, 3) RGB, as a `data:` URL of a JPEG file."""
    return f"data:image/jpeg;base64,{base64.b64encode(as_jpeg(pixels)).decode()}"


def as_jpeg(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "JPEG", quality=88)
    return file.getvalue()


def of_sample(sample: Sample, side: int = 72) -> str:
    """Returns the face of a frame as a `data:` URL."""
    pixels = np.asarray(Image.open(io.BytesIO(sample.jpeg), formats=["JPEG"]))
    return as_data_url(crop_box(pixels, np.array(sample.box, np.float32), side))


def svg_as_data_url(svg: str) -> str:
    """Returns an SVG picture as a `data:` URL. In an `img` element, browsers run no script of it."""
    return f"data:image/svg+xml;base64,{base64.b64encode(svg.encode()).decode()}"
