"""Where a page of identities ended, as text that a client passes back unread."""

import base64
import binascii
import uuid
from datetime import datetime

from service.errors import InvalidRequest
from service.gallery.identities import Identity, Place


def encode(identity: Identity) -> str:
    words = f"{identity.created_at.isoformat()} {identity.id}"
    return base64.urlsafe_b64encode(words.encode()).decode()


def decode(cursor: str) -> Place:
    """Raises InvalidRequest."""
    try:
        created_at, _, identity_id = base64.urlsafe_b64decode(cursor).decode().partition(" ")
        place = Place(datetime.fromisoformat(created_at), uuid.UUID(identity_id))
    except (binascii.Error, ValueError):
        raise InvalidRequest("the cursor is not one that this service gave out", pointer="/cursor") from None
    if place.created_at.tzinfo is None:
        raise InvalidRequest("the cursor is not one that this service gave out", pointer="/cursor")
    return place
