"""Reads all centroids of a collection at once."""

import uuid
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg

from service.gallery.index import centroid_stream

Floats = npt.NDArray[np.float32]


def read(
    connection: "psycopg.Connection[Any]", collection_id: uuid.UUID, model_id: str, limit: int
) -> tuple[list[uuid.UUID], Floats] | int:
    """Returns the ids of the identities that have a template of the model, and their (n, dim) centroids.

    Returns:
        The number of these identities instead if there are more than `limit`.
    """
    connection.execute("SELECT public.allow_collection(%s)", [collection_id])
    people, dim = centroid_stream.size_of(connection, collection_id, model_id)
    if people > limit:
        return people
    parts = [
        centroid_stream.parse_part(part, dim) for part in centroid_stream.read_all(connection, collection_id, model_id)
    ]
    ids = [uuid.UUID(bytes=row.tobytes()) for part in parts for row in part.ids]
    return ids, np.concatenate([*(part.embeddings for part in parts), np.zeros((0, dim), np.float32)])
