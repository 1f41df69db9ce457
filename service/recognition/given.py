"""Embeddings that a caller computed elsewhere, in the place of pictures."""

from collections.abc import Sequence

import numpy as np

from service.errors import EmbeddingRefused, RegistryError
from service.inference.engine import Detection, Engine, Face, Floats, ImageInput, Observation
from service.vision.sample import Quality

TOLERANCE = 0.01
"""How far from one the length of an embedding may be, which half-precision and rounding bring along."""
NOWHERE = Detection((0.0, 0.0, 0.0, 0.0), 1.0, None)


def given(data: bytes, model_id: str | None, engine: Engine, pointer: str) -> ImageInput:
    """The embedding in little-endian float32 as an input, brought to length one.

    Raises:
        EmbeddingRefused: it is of another model or dimension, or not normalised.
    """
    if model_id != engine.model_id:
        raise EmbeddingRefused(
            f"the embedding is said to be of model {model_id!r}, and the service runs {engine.model_id!r}; `model_id` "
            "must be sent along",
            pointer="/model_id",
        )
    if len(data) != 4 * engine.dim:
        raise EmbeddingRefused(
            f"the embedding has {len(data) / 4:g} numbers, and model {model_id!r} makes {engine.dim}", pointer=pointer
        )
    vector = np.frombuffer(data, "<f4").astype(np.float32)
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not abs(length - 1) <= TOLERANCE:  # also where it is not a number
        raise EmbeddingRefused(f"the embedding has length {length:.4g}; normalise it to length one", pointer=pointer)
    vector /= np.float32(length)
    return ImageInput(vector.tobytes(), given=vector)


async def look(engine: Engine, images: Sequence[ImageInput]) -> list[Observation | RegistryError]:
    """What the engine sees in the pictures; what was given as an embedding is taken as it is."""
    pictures = [image for image in images if image.given is None]
    seen = iter(await engine.observe(pictures) if pictures else [])
    return [next(seen) if image.given is None else _observation(image.given) for image in images]


def _observation(vector: Floats) -> Observation:
    quality = Quality(face_px=0, sharpness=0, asymmetry=0, brightness=0, score=None)
    return Observation(0, 0, [NOWHERE], [Face(NOWHERE, quality, vector, given=True)])
