"""/audit: who did what"""

import uuid
from typing import Annotated

from fastapi import APIRouter, Query

from service.api.http.collection_scope import AuditInCollection
from service.api.http.cursors import Cursor, Limit, cut, decode_number, encode_text
from service.api.schemas.audit import AuditResponse, HeadsResponse, entry_view, head_view
from service.api.state import RegistryDependency
from service.gallery.access import audit
from service.gallery.access.audit import Action

router = APIRouter(prefix="/audit", tags=["audit"])


@router.get("", summary="The audit trail of a collection, oldest first")
async def list_entries(
    collection: AuditInCollection,
    registry: RegistryDependency,
    limit: Limit = 100,
    cursor: Cursor = None,
    identity_id: Annotated[uuid.UUID | None, Query(description="only what concerns this person, erased or not")] = None,
    action: Annotated[Action | None, Query(description="only entries of this kind")] = None,
) -> AuditResponse:
    """Who enrolled, verified, searched, changed, erased, when and with which key. Reading the trail is not in it."""
    after = decode_number(cursor) or 0
    await registry.read_audit.flush()
    async with collection.transaction() as (connection, collection_id):
        found = await audit.page(connection, collection_id, limit + 1, after, identity_id, action)
    page, next_cursor = cut(found, limit, lambda entry: encode_text(str(entry.number)))
    return AuditResponse(entries=[entry_view(entry) for entry in page], next_cursor=next_cursor)


@router.get("/heads", summary="Where the collection's chain ends, to be kept elsewhere")
async def list_heads(collection: AuditInCollection, registry: RegistryDependency) -> HeadsResponse:
    """`python -m service audit verify --heads FILE` compares them with the chain later."""
    await registry.read_audit.flush()
    async with collection.transaction() as (connection, collection_id):
        found = await audit.heads(connection, collection_id)
    return HeadsResponse(heads=[head_view(head) for head in found])
