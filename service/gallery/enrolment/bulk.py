"""Stores many new identities with one embedding each, in a few statements.

The rows of their job hold the external ids, labels and metadata. The embeddings are copied into a temporary table:
COPY is the fastest way, and PostgreSQL refuses it for tables with row-level security.
"""

import os
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from sqlalchemy import Text, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.index.centroids import codes_of
from service.gallery.jobs.records import JobRef
from service.gallery.storage.tables import CODE_BITS, identity

Floats = npt.NDArray[np.float32]
HASH_BYTES, CODE_BYTES = 32, CODE_BITS // 8
_CREATE = (
    "CREATE TEMPORARY TABLE IF NOT EXISTS new_identity "
    f"(number int4, id uuid, template_id uuid, source bytea, embedding vector, code bit({CODE_BITS})) "
    "ON COMMIT DELETE ROWS"
)
_COPY = "COPY new_identity FROM STDIN (FORMAT BINARY)"
_SIGNATURE = b"PGCOPY\n\xff\r\n\x00" + bytes(8)
_END = b"\xff\xff"
# `created_at` and `updated_at` of an identity have the clock's time as their default.
_IDENTITIES = text(
    "INSERT INTO identity (collection_id, id, external_id, external_id_sent, label, metadata) "
    "SELECT r.collection_id, n.id, external_id, external_id_sent, coalesce(label, external_id_sent, external_id), "
    "coalesce(metadata, '{}') "
    "FROM new_identity n JOIN job_row r USING (number) "
    "WHERE collection_id = :collection AND job_id = :job"
)
_TEMPLATES = text(
    "INSERT INTO template "
    "(collection_id, identity_id, model_id, dim, embedding, id, source_sha256, box, detection_score, quality) "
    "SELECT CAST(:collection AS uuid), id, CAST(:model AS text), CAST(:dim AS int), embedding, template_id, source, "
    "'{0,0,0,0}', 1, NULL FROM new_identity"
)
_CENTROIDS = text(
    "INSERT INTO centroid (collection_id, identity_id, model_id, dim, embedding, template_count, code) "
    "SELECT CAST(:collection AS uuid), id, CAST(:model AS text), CAST(:dim AS int), embedding, 1, code "
    "FROM new_identity"
)
_FINISHED = text(
    "UPDATE job_row r SET status = 'accepted', identity_id = n.id, template_id = n.template_id, done_at = now() "
    "FROM new_identity n "
    "WHERE collection_id = :collection AND job_id = :job AND r.number = n.number AND r.status IS NULL"
)


@dataclass(frozen=True)
class NewIdentities:
    """n identities that do not exist, with one embedding each.

    Attributes:
        numbers: (n,), the numbers of their rows of the job.
        ids: their ids.
        sources: SHA-256 of each sample.
        embeddings: (n, dim), normalised.
    """

    numbers: npt.NDArray[np.int32]
    ids: list[uuid.UUID]
    sources: list[bytes]
    embeddings: Floats


def random_ids(count: int) -> list[uuid.UUID]:
    """Returns random UUIDs of version 4, with one system call instead of one for each."""
    data = os.urandom(16 * count)
    return [uuid.UUID(bytes=data[start : start + 16], version=4) for start in range(0, len(data), 16)]


async def existing(connection: AsyncConnection, collection_id: uuid.UUID, external_ids: list[str]) -> set[str]:
    """Returns which of the external ids, in their comparable form, an identity has, expired ones included."""
    wanted = bindparam("external_ids", type_=ARRAY(Text))
    statement = select(identity.c.external_id).where(
        identity.c.collection_id == collection_id, identity.c.external_id == wanted.any_()
    )
    return set((await connection.execute(statement, {"external_ids": external_ids})).scalars())


async def store(connection: AsyncConnection, job_ref: JobRef, model_id: str, new: NewIdentities) -> int:
    """Inserts identities, templates and centroids, and finishes the rows of the job.

    Returns:
        The number of rows that had no result yet. If it is lower than n, the caller must roll the transaction back.

    Raises:
        sqlalchemy.exc.IntegrityError: a concurrent transaction has created one of the identities.
    """
    await _copy(connection, new)
    job = {"collection": job_ref.collection_id, "job": job_ref.id}
    of_model = {"collection": job_ref.collection_id, "model": model_id, "dim": new.embeddings.shape[1]}
    await connection.execute(_IDENTITIES, job)
    await connection.execute(_TEMPLATES, of_model)
    await connection.execute(_CENTROIDS, of_model)
    return (await connection.execute(_FINISHED, job)).rowcount


async def _copy(connection: AsyncConnection, new: NewIdentities) -> None:
    raw = (await connection.get_raw_connection()).driver_connection
    assert isinstance(raw, psycopg.AsyncConnection)
    async with raw.cursor() as cursor:
        await cursor.execute(_CREATE)
        async with cursor.copy(_COPY) as copy:
            await copy.write(_SIGNATURE + _rows(new).tobytes() + _END)


def _rows(new: NewIdentities) -> npt.NDArray[Any]:
    """Returns the rows in COPY's binary format: number of fields, then length and value of each."""
    count, dim = new.embeddings.shape
    fields: dict[str, np.dtype[Any]] = {
        "number": np.dtype(">i4"),
        "id": np.dtype("V16"),
        "template": np.dtype("V16"),
        "source": np.dtype(f"V{HASH_BYTES}"),
        "embedding": np.dtype([("dim", ">i2"), ("unused", ">i2"), ("values", ">f4", (dim,))]),
        "code": np.dtype([("bits", ">i4"), ("bytes", np.uint8, (CODE_BYTES,))]),
    }
    layout: list[Any] = [("fields", ">i2")]
    for name, kind in fields.items():
        layout += [(f"{name}_bytes", ">i4"), (name, kind)]
    rows = np.zeros(count, layout)
    rows["fields"] = len(fields)
    for name, kind in fields.items():
        rows[f"{name}_bytes"] = kind.itemsize
    rows["number"] = new.numbers
    rows["id"] = np.frombuffer(b"".join(item.bytes for item in new.ids), "V16")
    rows["template"] = np.frombuffer(b"".join(item.bytes for item in random_ids(count)), "V16")
    rows["source"] = np.frombuffer(b"".join(new.sources), f"V{HASH_BYTES}")
    rows["embedding"]["dim"], rows["embedding"]["values"] = dim, new.embeddings
    rows["code"]["bits"], rows["code"]["bytes"] = CODE_BITS, codes_of(new.embeddings)
    return rows
