"""Generates embeddings, pictures and archives for the load."""

import base64
import io
import random
import zipfile
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from service.demo.photos import packaged_cast
from service.inference.bundle import read_embedder
from service.runtime.settings import BUNDLES

Floats = npt.NDArray[np.float32]
FIRST = read_embedder(BUNDLES / "embedder")
SECOND = read_embedder(BUNDLES / "embedder-fairface")
"""The two shipped embedders, between which collections migrate."""
MODEL_IDS = (FIRST.model_id, SECOND.model_id)
DIM = FIRST.embedding_dim
NOISE = 0.35
"""Length of the noise that is added to a direction; two embeddings of a person have a cosine of about 0.9."""
FACES = ((0, (128, 20, 322, 214)), (1, (130, 80, 430, 380)))
"""Index of a person of the demo, and the box of the face in pixels."""
PORTRAIT_PX, CROP_PX = 224, 144
PEOPLE_PER_ARCHIVE, PICTURES_PER_PERSON = 6, 2


def random_direction(rng: random.Random) -> Floats:
    """Returns a random (DIM,) unit vector."""
    return _unit(np.array([rng.gauss(0, 1) for _ in range(DIM)]))


def near(base: Floats, rng: random.Random) -> Floats:
    """Returns a (DIM,) unit vector whose cosine with `base` is about 0.9."""
    return _unit(base + NOISE * random_direction(rng))


def encode(embedding: Floats) -> str:
    """Returns the Base64 of little-endian float32 numbers."""
    return base64.b64encode(embedding.astype("<f4").tobytes()).decode()


def portrait(subject: int, rng: random.Random) -> bytes:
    """Returns a JPEG of a real face, different in every call."""
    return _jpeg(_photo(subject, PORTRAIT_PX), rng)


def archive(prefix: str, rng: random.Random) -> tuple[bytes, dict[str, int]]:
    """Returns a zip archive of face crops, and the number of pictures by external id."""
    buffer = io.BytesIO()
    pictures = {f"{prefix}-{number}": PICTURES_PER_PERSON for number in range(PEOPLE_PER_ARCHIVE)}
    with zipfile.ZipFile(buffer, "w") as file:
        for number, name in enumerate(pictures):
            for picture in range(PICTURES_PER_PERSON):
                file.writestr(f"{name}/{picture}.jpg", _jpeg(_photo(number % len(FACES), CROP_PX), rng))
    return buffer.getvalue(), pictures


@cache
def _photo(subject: int, size: int) -> npt.NDArray[np.uint8]:
    person, (x0, y0, x1, y1) = FACES[subject]
    picture = cv2.imread(str(packaged_cast().people[person].enrolled[0]))
    if picture is None:
        raise FileNotFoundError("a photo of the demo cannot be read; run `make setup` again")
    return np.asarray(cv2.resize(picture[y0:y1, x0:x1], (size, size)), np.uint8)


def _jpeg(picture: npt.NDArray[np.uint8], rng: random.Random) -> bytes:
    lit = picture.astype(np.float32) * rng.uniform(0.7, 1.1) + rng.uniform(-6, 6)
    return cv2.imencode(".jpg", lit.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 92])[1].tobytes()


def _unit(vector: npt.NDArray[np.floating]) -> Floats:
    return np.asarray(vector / np.linalg.norm(vector), np.float32)
