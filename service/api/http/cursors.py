"""Where a page ended, as text that a client passes back unread."""

import base64
import binascii
import uuid
from collections.abc import Callable
from datetime import datetime
from typing import Annotated, Protocol, TypeVar

from fastapi import Query

from service.errors import InvalidRequest
from service.gallery.storage.paging import PageCursor

Limit = Annotated[int, Query(ge=1, le=1000)]
Cursor = Annotated[str | None, Query(max_length=400, description="`next_cursor` of the page before")]
Item = TypeVar("Item")
Where = TypeVar("Where")


class Dated(Protocol):
    """What was made at a time."""

    @property
    def created_at(self) -> datetime: ...

    @property
    def id(self) -> uuid.UUID: ...


def encode(item: Dated) -> str:
    """The place of the last one of a page."""
    return encode_text(f"{item.created_at.isoformat()} {item.id}")


def decode(cursor: str | None) -> PageCursor | None:
    """Raises InvalidRequest."""
    return _decoded(cursor, _place)


def encode_text(words: str) -> str:
    """A place that is a name or a number."""
    return base64.urlsafe_b64encode(words.encode()).decode()


def decode_text(cursor: str | None) -> str | None:
    """Raises InvalidRequest."""
    return _decoded(cursor, str)


def decode_number(cursor: str | None) -> int | None:
    """Raises InvalidRequest."""
    return _decoded(cursor, _number)


def cut(page: list[Item], limit: int, cursor_of: Callable[[Item], str]) -> tuple[list[Item], str | None]:
    """Of one more item than was asked for: the page, and the cursor of the next one if there is any."""
    return (page, None) if len(page) <= limit else (page[:limit], cursor_of(page[limit - 1]))


def _decoded(cursor: str | None, read: Callable[[str], Where]) -> Where | None:
    if cursor is None:
        return None
    try:
        words = base64.b64decode(cursor, altchars=b"-_", validate=True).decode()
        if "\x00" in words:
            raise ValueError
        return read(words)
    except (binascii.Error, ValueError, OverflowError):
        raise InvalidRequest("the cursor is not one that this service gave out", pointer="/cursor") from None


def _number(words: str) -> int:
    number = int(words)
    if not 0 <= number < 2**31:
        raise ValueError
    return number


def _place(words: str) -> PageCursor:
    created_at, _, identity = words.partition(" ")
    place = PageCursor(datetime.fromisoformat(created_at), uuid.UUID(identity))
    if place.created_at.tzinfo is None:
        raise ValueError
    return place
