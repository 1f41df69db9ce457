"""Stores many new identities with one embedding each, in a few statements.

The rows of their job hold the external ids, labels and metadata. Everything else is sent as arrays: PostgreSQL refuses
COPY for tables with row-level security, and the nodes of Citus have no temporary tables.
"""

import os
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from psycopg.postgres import types
from sqlalchemy import LargeBinary, Text, Uuid, bindparam, select, text
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.index.centroids import codes_of
from service.gallery.jobs.records import JobRef
from service.gallery.storage.binary_arrays import array_of, array_of_records
from service.gallery.storage.tables import CODE_BITS, identity

Floats = npt.NDArray[np.float32]
_VECTOR_OID = text("SELECT CAST(CAST('vector' AS regtype) AS oid)")
"""The id of pgvector's type, which differs between databases."""
# Without statistics of a new job, PostgreSQL would read all its rows for every part, so the range is part of the
# condition.
_OF_PART = """
    collection_id = %(collection)s AND job_id = %(job)s AND r.number BETWEEN %(first)s AND %(last)s
"""
_IDENTITIES = f"""
    INSERT INTO identity
        (collection_id, id, external_id, external_id_sent, label, metadata, created_at, updated_at)
    SELECT collection_id, n.id, external_id, external_id_sent, coalesce(label, external_id_sent, external_id),
        coalesce(metadata, '{{}}'), statement_timestamp(), statement_timestamp()
    FROM job_row r JOIN unnest(%(numbers)s::int4[], %(ids)s::uuid[]) n (number, id) ON r.number = n.number
    WHERE {_OF_PART}
"""  # noqa: S608 - constants of this module
# Citus finds the node of the new rows by the collection of the job.
_TEMPLATES = """
    INSERT INTO template
        (collection_id, identity_id, model_id, dim, embedding, id, source_sha256, box, detection_score, quality)
    SELECT j.collection_id, n.id, %(model)s, %(dim)s, n.embedding, n.template_id, n.source, '{0,0,0,0}', 1, NULL
    FROM job j, unnest(%(ids)s::uuid[], %(template_ids)s::uuid[], %(sources)s::bytea[], %(embeddings)s::vector[])
        n (id, template_id, source, embedding)
    WHERE j.collection_id = %(collection)s AND j.id = %(job)s
"""
_CENTROIDS = f"""
    INSERT INTO centroid (collection_id, identity_id, model_id, dim, embedding, template_count, code)
    SELECT j.collection_id, n.id, %(model)s, %(dim)s, n.embedding, 1, n.code::bit({CODE_BITS})
    FROM job j, unnest(%(ids)s::uuid[], %(embeddings)s::vector[], %(codes)s::varbit[]) n (id, embedding, code)
    WHERE j.collection_id = %(collection)s AND j.id = %(job)s
"""  # noqa: S608
_FINISHED = f"""
    UPDATE job_row r SET status = 'accepted', identity_id = n.id, template_id = n.template_id, done_at = now()
    FROM unnest(%(numbers)s::int4[], %(ids)s::uuid[], %(template_ids)s::uuid[]) n (number, id, template_id)
    WHERE {_OF_PART} AND r.number = n.number AND r.status IS NULL
"""  # noqa: S608


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
    vector_oid = int((await connection.execute(_VECTOR_OID)).scalar_one())
    parameters = _parameters(job_ref, model_id, new, vector_oid)
    for statement in (_IDENTITIES, _TEMPLATES, _CENTROIDS):
        await connection.exec_driver_sql(statement, parameters)
    return (await connection.exec_driver_sql(_FINISHED, parameters)).rowcount


def _parameters(job_ref: JobRef, model_id: str, new: NewIdentities, vector_oid: int) -> dict[str, Any]:
    template_ids = random_ids(len(new.ids))
    return {
        "collection": job_ref.collection_id,
        "job": job_ref.id,
        "model": model_id,
        "dim": new.embeddings.shape[1],
        "first": int(new.numbers.min()),
        "last": int(new.numbers.max()),
        "numbers": array_of_records(types["int4"].oid, new.numbers.astype(">i4")),
        "ids": array_of(Uuid(), new.ids),
        "template_ids": array_of(Uuid(), template_ids),
        "sources": array_of(LargeBinary(), new.sources),
        "embeddings": array_of_records(vector_oid, _vectors(new.embeddings)),
        "codes": array_of_records(types["varbit"].oid, _codes(new.embeddings)),
    }


def _vectors(embeddings: Floats) -> npt.NDArray[np.void]:
    """Returns (n, dim) embeddings in the binary format of pgvector: dimensions, an unused field, and the numbers."""
    count, dim = embeddings.shape
    rows = np.zeros(count, [("dim", ">i2"), ("unused", ">i2"), ("values", ">f4", (dim,))])
    rows["dim"], rows["values"] = dim, embeddings
    return rows


def _codes(embeddings: Floats) -> npt.NDArray[np.void]:
    """Returns the binary codes of embeddings in PostgreSQL's binary format of bit strings: length and bits."""
    rows = np.zeros(len(embeddings), [("bits", ">i4"), ("bytes", np.uint8, (CODE_BITS // 8,))])
    rows["bits"], rows["bytes"] = CODE_BITS, codes_of(embeddings)
    return rows
