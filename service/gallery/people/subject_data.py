"""Everything that is held on one person, for whoever has a right to know."""

import uuid
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.access import audit
from service.gallery.access.audit import Entry
from service.gallery.people import identities
from service.gallery.people.identities import Identity
from service.gallery.storage.tables import centroid, correction, crop, idempotency, job_row, template

MOST_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class SubjectData:
    """Rows of each table as they are stored, and what the audit trail says of the person."""

    identity: Identity
    templates: list[dict[str, Any]]
    centroids: list[dict[str, Any]]
    corrections: list[dict[str, Any]]
    crops: list[dict[str, Any]]
    answers: list[dict[str, Any]]
    job_rows: list[dict[str, Any]]
    audit: list[Entry]


async def read_subject_data(connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID) -> SubjectData:
    """Raises IdentityNotFound."""
    person = await identities.get(connection, collection_id, identity_id)

    async def rows(table: Table, is_theirs: Any) -> list[dict[str, Any]]:
        statement = select(table).where(table.c.collection_id == collection_id, is_theirs)
        return [dict(row._mapping) for row in await connection.execute(statement)]

    in_jobs = (job_row.c.external_id == person.external_id) | (job_row.c.identity_id == identity_id)
    return SubjectData(
        person,
        await rows(template, template.c.identity_id == identity_id),
        await rows(centroid, centroid.c.identity_id == identity_id),
        await rows(correction, correction.c.identity_id == identity_id),
        await rows(crop, crop.c.identity_id == identity_id),
        await rows(idempotency, idempotency.c.identity_id == identity_id),
        await rows(job_row, in_jobs),
        await audit.page(connection, collection_id, MOST_ENTRIES, identity_id=identity_id),
    )
