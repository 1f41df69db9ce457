"""Parses embeddings that clients supply instead of pictures."""

import numpy as np

from service.errors import InvalidEmbedding
from service.inference.engine import Engine, SuppliedEmbedding

MAX_LENGTH_ERROR = 0.01
"""Maximum deviation of a supplied embedding's length from 1. Half precision and rounding cause deviations."""


def supplied_embedding(data: bytes, model_id: str | None, engine: Engine, pointer: str) -> SuppliedEmbedding:
    """Parses an embedding, (dim,) little-endian float32, and normalises it to length 1.

    Raises:
        InvalidEmbedding: the model or the dimension is wrong, or the embedding is not normalised.
    """
    if model_id is None or model_id not in engine.dims:
        raise InvalidEmbedding(
            f"`model_id` is {model_id!r}; it must name the model of the embedding, one of {', '.join(engine.dims)}",
            pointer="/model_id",
        )
    if len(data) != 4 * engine.dims[model_id]:
        raise InvalidEmbedding(
            f"the embedding has {len(data) / 4:g} numbers; model {model_id!r} has {engine.dims[model_id]} dimensions",
            pointer=pointer,
        )
    vector = np.frombuffer(data, "<f4").astype(np.float32)
    length = float(np.linalg.norm(vector.astype(np.float64)))
    if not abs(length - 1) <= MAX_LENGTH_ERROR:  # also refuses NaN
        raise InvalidEmbedding(f"the embedding has length {length:.4g}; normalise it to length 1", pointer=pointer)
    return SuppliedEmbedding(vector / np.float32(length), model_id)
