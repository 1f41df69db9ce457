"""What the engine sees in pictures, and embeddings that a caller computed elsewhere in their place."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from service.errors import EmbeddingRefused, RegistryError
from service.inference.engine import Detection, Engine, Face, Floats, Picture, Observation
from service.vision.sample import Quality

TOLERANCE = 0.01
"""How far from one the length of an embedding may be, which half-precision and rounding bring along."""
NOWHERE = Detection((0.0, 0.0, 0.0, 0.0), 1.0, None)


def given(data: bytes, model_id: str | None, engine: Engine, pointer: str) -> Picture:
    """The embedding in little-endian float32 as an input, brought to length one.

    Raises:
        EmbeddingRefused: it is of another model or dimension, or not normalised.
    """
    if model_id is None or model_id not in engine.dims:
        raise EmbeddingRefused(
            f"the embedding is said to be of model {model_id!r}, and the service runs {', '.join(engine.dims)}; "
            "`model_id` must be sent along",
            pointer="/model_id",
        )
    if len(data) != 4 * engine.dims[model_id]:
        raise EmbeddingRefused(
            f"the embedding has {len(data) / 4:g} numbers, and model {model_id!r} makes {engine.dims[model_id]}",
            pointer=pointer,
        )
    vector = np.frombuffer(data, "<f4").astype(np.float32)
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not abs(length - 1) <= TOLERANCE:  # also where it is not a number
        raise EmbeddingRefused(f"the embedding has length {length:.4g}; normalise it to length one", pointer=pointer)
    vector /= np.float32(length)
    return Picture(vector.tobytes(), model_id=model_id, given=vector)


async def look(
    engine: Engine, images: Sequence[Picture], model_id: str, keep_crops: bool = False
) -> list[Observation | RegistryError]:
    """What the engine sees in the pictures, embedded by a model; an embedding of that model is taken as it is.

    Args:
        keep_crops: the faces come with their aligned crops, where they were seen in pictures.
    """
    pictures = [replace(image, model_id=model_id, keep_crop=keep_crops) for image in images if image.given is None]
    seen = iter(await engine.observe(pictures) if pictures else [])
    return [
        next(seen) if image.given is None else _observation(image.given, image.model_id, model_id) for image in images
    ]


async def look_again(
    engine: Engine, crops: Sequence[bytes], model_id: str, background: bool = False
) -> list[Face | RegistryError]:
    """Aligned crops, embedded by another model."""
    inputs = [Picture(crop, cropped=True, model_id=model_id, background=patient) for crop in crops]
    seen = await engine.observe(inputs) if inputs else []
    return [item if isinstance(item, RegistryError) else item.faces[0] for item in seen]


def _observation(vector: Floats, given_model: str | None, model_id: str) -> Observation | RegistryError:
    if given_model != model_id:
        return EmbeddingRefused(f"the embedding is of model {given_model!r}, and is to be compared with {model_id!r}'s")
    quality = Quality(face_px=0, sharpness=0, asymmetry=0, brightness=0, score=None)
    return Observation(0, 0, [NOWHERE], [Face(NOWHERE, quality, vector, given=True)])
