"""Encodes and decodes the cursors of paged lists. A cursor is opaque text for the client."""

import base64
import binascii
import uuid
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Annotated, Protocol, TypeVar

from fastapi import Query

from service.errors import InvalidRequest
from service.gallery.storage.paging import PageCursor

Limit = Annotated[int, Query(ge=1, le=1000, description="maximum number of items")]
Cursor = Annotated[str | None, Query(max_length=400, description="`next_cursor` of the previous page")]
Item = TypeVar("Item")
Position = TypeVar("Position")


class Dated(Protocol):
    """An item of a list that is sorted by time of creation."""

    @property
    def created_at(self) -> datetime: ...

    @property
    def id(self) -> uuid.UUID: ...


def encode(item: Dated) -> str:
    """Returns the cursor of the page that begins after an item of a list sorted by time of creation."""
    return encode_text(f"{item.created_at.isoformat()} {item.id}")


def decode(cursor: str | None) -> PageCursor | None:
    """Returns the position of a cursor of `encode`; None without a cursor. Raises InvalidRequest."""
    return _decoded(cursor, _page_cursor)


def encode_text(text: str) -> str:
    """Returns the cursor of the page that begins after a name or a number."""
    return base64.urlsafe_b64encode(text.encode()).decode()


def decode_text(cursor: str | None) -> str | None:
    """Returns the name in a cursor of `encode_text`; None without a cursor. Raises InvalidRequest."""
    return _decoded(cursor, str)


def decode_number(cursor: str | None) -> int | None:
    """Returns the number (0 to 2**31 - 1) in a cursor of `encode_text`; None without a cursor.

    Raises:
        InvalidRequest
    """
    return _decoded(cursor, _number)


def split_page(items: list[Item], limit: int, cursor_of: Callable[[Item], str]) -> tuple[list[Item], str | None]:
    """Returns the first `limit` items, and the cursor of the next page if there are more items."""
    return (items, None) if len(items) <= limit else (items[:limit], cursor_of(items[limit - 1]))


def _decoded(cursor: str | None, parse: Callable[[str], Position]) -> Position | None:
    if cursor is None:
        return None
    try:
        text = base64.b64decode(cursor, altchars=b"-_", validate=True).decode()
        if "\x00" in text:
            raise ValueError
        return parse(text)
    except (binascii.Error, ValueError, OverflowError):
        raise InvalidRequest(
            "the cursor is invalid; send `next_cursor` of the previous page", pointer="/cursor"
        ) from None


def _number(text: str) -> int:
    number = int(text)
    if not 0 <= number < 2**31:
        raise ValueError
    return number


def _page_cursor(text: str) -> PageCursor:
    text_of_time, _, identity = text.partition(" ")
    created_at = datetime.fromisoformat(text_of_time)
    if created_at.tzinfo is None:
        raise ValueError
    return PageCursor(created_at.astimezone(UTC), uuid.UUID(identity))
