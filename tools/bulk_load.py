"""Copies synthetic people into a gallery with COPY, which PostgreSQL permits only to the owner of the tables."""

import time
import uuid
from collections.abc import Iterator, Sequence

import psycopg
from pgvector import Bit
from pgvector.psycopg import register_vector
from rich.progress import track

from service.gallery.index.centroids import binary_codes
from service.gallery.people.collections import Collection
from tools.synthetic_gallery import CHUNK, Floats

MODEL = "synthetic"
IDENTITY = "identity (collection_id, id, external_id, label)", ["uuid", "uuid", "text", "text"]
TEMPLATE = (
    "template (collection_id, identity_id, model_id, dim, embedding, id, source_sha256, box, detection_score)",
    ["uuid", "uuid", "text", "int4", "vector", "uuid", "bytea", "float4[]", "float4"],
)
CENTROID = (
    "centroid (collection_id, identity_id, model_id, dim, embedding, template_count, code)",
    ["uuid", "uuid", "text", "int4", "vector", "int4", "bit"],
)


def copy_people(
    url: str, collection: Collection, ids: Sequence[uuid.UUID], people: Floats, title: str, model_id: str = MODEL
) -> float:
    """Inserts one identity with one template and one centroid for each row of `people`.

    Args:
        ids: ids of the N identities.
        people: (N, dim) normalised embeddings.
        title: description of the progress bar; an empty title hides the bar.
        model_id: a registered model.

    Returns:
        The time in seconds.
    """
    started = time.perf_counter()
    with psycopg.connect(url.replace("+psycopg", "")) as connection:
        register_vector(connection)
        chunks = range(0, len(people), CHUNK)
        for first in track(chunks, description=title, transient=True, disable=not title):
            with connection.cursor() as cursor:
                _copy_chunk(cursor, collection, ids[first : first + CHUNK], people[first : first + CHUNK], model_id)
            connection.commit()
    return time.perf_counter() - started


def _copy_chunk(
    cursor: "psycopg.Cursor[tuple[object, ...]]",
    collection: Collection,
    ids: Sequence[uuid.UUID],
    people: Floats,
    model_id: str,
) -> None:
    dim, box = people.shape[1], [0.0, 0.0, 1.0, 1.0]
    _copy(cursor, *IDENTITY, ((collection.id, identity_id, str(identity_id), "synthetic") for identity_id in ids))
    templates = (
        (collection.id, identity_id, model_id, dim, vector, identity_id, identity_id.bytes * 2, box, 1.0)
        for identity_id, vector in zip(ids, people, strict=True)
    )
    _copy(cursor, *TEMPLATE, templates)
    centroids = (
        (collection.id, identity_id, model_id, dim, vector, 1, Bit(code))
        for identity_id, vector, code in zip(ids, people, binary_codes(people), strict=True)
    )
    _copy(cursor, *CENTROID, centroids)


def _copy(cursor: "psycopg.Cursor[tuple[object, ...]]", target: str, types: list[str], rows: Iterator[object]) -> None:
    with cursor.copy(f"COPY {target} FROM STDIN (FORMAT BINARY)") as copy:
        copy.set_types(types)
        for row in rows:
            copy.write_row(row)  # type: ignore[arg-type]
