"""Places in lists that are read page by page."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, Table, tuple_


@dataclass(frozen=True, slots=True)
class PageCursor:
    """A place in the order of making."""

    created_at: datetime
    id: uuid.UUID


def after_cursor(statement: Select[Any], table: Table, after: PageCursor | None, limit: int | None) -> Select[Any]:
    """Up to `limit` rows in the order of making, beginning after a place."""
    if after is not None:
        statement = statement.where(tuple_(table.c.created_at, table.c.id) > (after.created_at, after.id))
    return statement.order_by(table.c.created_at, table.c.id).limit(limit)
