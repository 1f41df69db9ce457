"""Reads the audit trail of a collection."""

import uuid
from dataclasses import dataclass

from service.gallery.access import audit_log
from service.gallery.access.audit_entries import Action, Entry, Head
from service.gallery.storage.database import Database
from service.recognition.collection_access import in_collection
from service.recognition.read_audit import ReadAuditBuffer


@dataclass(frozen=True)
class AuditQueries:
    """The use cases about the audit trail. They write the buffered events of read operations first."""

    database: Database
    read_audit: ReadAuditBuffer

    async def page(
        self, collection: str, limit: int, after: int, identity_id: uuid.UUID | None, action: Action | None
    ) -> list[Entry]:
        """Returns up to `limit` entries whose numbers are higher than `after`. Raises CollectionNotFound."""
        await self.read_audit.flush()
        async with in_collection(self.database, collection) as (connection, current):
            return await audit_log.page(connection, current.id, limit, after, identity_id, action)

    async def heads(self, collection: str) -> list[Head]:
        """Returns the head of the collection's chain. Raises CollectionNotFound."""
        await self.read_audit.flush()
        async with in_collection(self.database, collection) as (connection, current):
            return await audit_log.heads(connection, current.id)
