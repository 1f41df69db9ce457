"""Routes of /audit."""

import uuid
from typing import Annotated

from fastapi import APIRouter, Query

from service.api.http.collection_scope import AuditScope
from service.api.http.cursors import Cursor, Limit, decode_number, encode_text, split_page
from service.api.schemas.audit import AuditResponse, HeadsResponse, entry_view, head_view
from service.api.state import State
from service.gallery.access.audit_entries import Action

router = APIRouter(prefix="/audit", tags=["audit"])


@router.get("", summary="Read the audit trail of a collection, oldest entry first")
async def list_audit_entries(
    state: State,
    collection: AuditScope,
    limit: Limit = 100,
    cursor: Cursor = None,
    identity_id: Annotated[uuid.UUID | None, Query(description="only entries about this identity")] = None,
    action: Annotated[Action | None, Query(description="only entries of this kind")] = None,
) -> AuditResponse:
    """Returns the events of the collection (enrolments, searches, changes, erasures, …) with times and API keys."""
    items = await state.audit.page(collection.name, limit + 1, decode_number(cursor) or 0, identity_id, action)
    page, next_cursor = split_page(items, limit, lambda entry: encode_text(str(entry.number)))
    return AuditResponse(entries=[entry_view(entry) for entry in page], next_cursor=next_cursor)


@router.get("/heads", summary="Read the head of the collection's audit chain")
async def list_audit_heads(state: State, collection: AuditScope) -> HeadsResponse:
    """Returns the number and the MAC of the last entry.

    `identity-registry audit verify --heads FILE` compares a copy of this response with the chain.
    """
    return HeadsResponse(heads=[head_view(head) for head in await state.audit.heads(collection.name)])
