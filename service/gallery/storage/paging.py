"""Keyset pagination in the order of creation."""

import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, Table, tuple_


@dataclass(frozen=True, slots=True)
class PageCursor:
    """Sort key of the last row of a page. The next page starts after it."""

    created_at: datetime
    id: uuid.UUID


def after_cursor(statement: Select[Any], table: Table, after: PageCursor | None, limit: int | None) -> Select[Any]:
    """Orders a statement by creation and limits it to the `limit` rows after a cursor.

    Args:
        table: has the columns `created_at` and `id`.
        after: None: from the first row.
        limit: None: all rows.
    """
    if after is not None:
        statement = statement.where(tuple_(table.c.created_at, table.c.id) > (after.created_at, after.id))
    return statement.order_by(table.c.created_at, table.c.id).limit(limit)
