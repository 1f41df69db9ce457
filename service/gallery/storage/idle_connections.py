"""Tests connections that were idle before they are used again."""

import time
from typing import Any

from sqlalchemy import event
from sqlalchemy.exc import InvalidatePoolError
from sqlalchemy.ext.asyncio import AsyncEngine

TESTED_AFTER_S = 1.0
"""Time without use after which a connection is tested. SQLAlchemy's `pool_pre_ping` tests at every use, which takes a
fifth of the time of a search."""
LAST_USE = "last_use"


def replace_broken_connections(engine: AsyncEngine) -> None:
    """Replaces connections of the pool that broke while they were idle, before a request uses them.

    If one is broken, the others of the pool are replaced too, because they probably are.
    """
    dialect, pool = engine.sync_engine.dialect, engine.sync_engine.pool

    def remember(_: Any, record: Any) -> None:
        record.info[LAST_USE] = time.monotonic()

    def test(connection: Any, record: Any, _: Any) -> None:
        if time.monotonic() - record.info.get(LAST_USE, 0.0) < TESTED_AFTER_S:
            return
        try:
            dialect.do_ping(connection)
        except dialect.loaded_dbapi.Error as error:
            raise InvalidatePoolError from error

    event.listen(pool, "connect", remember)
    event.listen(pool, "checkin", remember)
    event.listen(pool, "checkout", test)
