"""Keyset pagination in the order of creation."""

import asyncio
import time
import uuid
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Select, Table, text, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.storage.database import TRANSACTION_TIMEOUT_S
from service.gallery.storage.nodes import on_node

MAX_WAIT_S, POLL_S = 2.0, 0.01
"""Maximum time for which a page waits for open transactions, and the time between two checks."""
_OPEN = text(
    on_node(
        "CAST(CAST(pg_snapshot_xmin(pg_current_snapshot()) AS text) AS bigint) AS lowest_open, "
        "CAST(CAST(pg_snapshot_xmax(pg_current_snapshot()) AS text) AS bigint) AS next_id, clock_timestamp() AS now",
        ":collection_id",
    )
)


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


async def await_earlier_rows(connection: AsyncConnection, collection_id: uuid.UUID, created_at: datetime) -> bool:
    """Waits until no open transaction can commit a row of a collection that is older than a visible one.

    `created_at` must be the clock's time of the insertion: a transaction that begins later inserts later rows. Earlier
    rows can only come from transactions that are open now, which have lasted for at most `TRANSACTION_TIMEOUT_S`. They
    take milliseconds; this function waits for `MAX_WAIT_S` at most.

    Args:
        created_at: time of the last row of a page.

    Returns:
        True if it waited: the page must be read again.
    """
    parameters = {"collection_id": collection_id}
    first = (await connection.execute(_OPEN, parameters)).one()
    is_old = (first.now - created_at).total_seconds() > TRANSACTION_TIMEOUT_S
    if is_old or first.lowest_open >= first.next_id:
        return False
    until = time.monotonic() + MAX_WAIT_S
    while time.monotonic() < until:
        await asyncio.sleep(POLL_S)
        if (await connection.execute(_OPEN, parameters)).one().lowest_open >= first.next_id:
            break
    return True
