"""Everything that is stored about one identity, for the data subject's right of access."""

import contextlib
import uuid
from dataclasses import dataclass, replace
from typing import Any

from sqlalchemy import Table, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import CropUnreadable
from service.gallery.access import audit_log
from service.gallery.access.audit_entries import Entry
from service.gallery.jobs import rows as job_rows
from service.gallery.people import identities
from service.gallery.people.crop_cipher import CropCipher
from service.gallery.people.identities import Identity
from service.gallery.storage.tables import (
    centroid,
    correction,
    crop,
    group_member,
    idempotency,
    job_row,
    labelled,
    template,
)

MAX_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class SubjectData:
    """The rows of each table as they are stored, and up to 10,000 entries of the audit trail about the identity."""

    identity: Identity
    templates: list[dict[str, Any]]
    centroids: list[dict[str, Any]]
    corrections: list[dict[str, Any]]
    crops: list[dict[str, Any]]
    stored_responses: list[dict[str, Any]]
    job_rows: list[dict[str, Any]]
    group_memberships: list[dict[str, Any]]
    audit: list[Entry]


async def read(connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID) -> SubjectData:
    """Reads everything that is stored about an identity. Raises IdentityNotFound."""
    identity = await identities.get(connection, collection_id, identity_id)

    async def rows(table: Table, condition: Any) -> list[dict[str, Any]]:
        statement = select(*labelled(table)).where(table.c.collection_id == collection_id, condition)
        return [dict(row._mapping) for row in await connection.execute(statement)]

    in_jobs = job_rows.names_person(identity.external_id) | (job_row.c.identity_id == identity_id)
    return SubjectData(
        identity,
        await rows(template, template.c.identity_id == identity_id),
        await rows(centroid, centroid.c.identity_id == identity_id),
        await rows(correction, correction.c.identity_id == identity_id),
        await rows(crop, crop.c.identity_id == identity_id),
        await rows(idempotency, idempotency.c.identity_id == identity_id),
        await rows(job_row, in_jobs),
        await rows(group_member, group_member.c.identity_id == identity_id),
        await audit_log.page(connection, collection_id, MAX_ENTRIES, identity_id=identity_id),
    )


def decrypted(data: SubjectData, cipher: CropCipher | None) -> SubjectData:
    """Returns the data with the crops of the identity's own templates; crops of corrections show other people.

    Each row of a crop gets `file`, the encoded picture; None: there is no key, or the crop cannot be decrypted.
    """
    sources = {row["source_sha256"] for row in data.templates}
    own = [row for row in data.crops if row["source_sha256"] in sources]
    return replace(data, crops=[row | {"file": None if cipher is None else _file(cipher, row)} for row in own])


def _file(cipher: CropCipher, row: dict[str, Any]) -> bytes | None:
    with contextlib.suppress(CropUnreadable):
        return cipher.decrypt(row["encrypted"], row["source_sha256"])
    return None
