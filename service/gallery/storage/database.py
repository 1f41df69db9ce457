"""Connections and transactions, and the mapping of their failures to service errors."""

import uuid
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from sqlalchemy import AsyncAdaptedQueuePool, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from service.errors import DatabaseUnavailable
from service.gallery.storage import row_security

CONNECT_TIMEOUT_S = 3
STATEMENT_TIMEOUT_S = 30
OUTAGE_CLASSES = {"08", "40", "53", "55", "57"}
"""SQLSTATE classes: connection exception, rollback, insufficient resources, lock, operator intervention."""


class Database:
    """A pool of connections to one PostgreSQL database.

    Args:
        role: every connection assumes the rights of this role (`SET role`).
    """

    def __init__(self, url: str, pool_size: int = 10, pool_timeout_s: float = 5.0, role: str | None = None) -> None:
        self.url = url
        options = f"-c statement_timeout={STATEMENT_TIMEOUT_S}s" + (f" -c role={role}" if role else "")
        self.engine: AsyncEngine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=pool_timeout_s,
            # Replaces a connection that broke while it was idle before a request uses it.
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_S,
                "application_name": "identity-registry",
                # Bounds how long a client waits for a server that no longer answers.
                "tcp_user_timeout": STATEMENT_TIMEOUT_S * 1000,
                "options": options,
            },
            hide_parameters=True,
        )

    @asynccontextmanager
    async def transaction(
        self, collection_id: uuid.UUID | None = None, all_collections: bool = False
    ) -> AsyncIterator[AsyncConnection]:
        """Opens one transaction, commits it at the end of the block, and rolls it back if the block raises.

        Args:
            collection_id: row-level security shows the rows of this collection. `collections.get` adds others.
            all_collections: row-level security shows the rows of all collections.

        Raises:
            DatabaseUnavailable: no connection is free or can be opened, the connection broke, or the server lacks
                resources or time.
        """
        committing = False
        try:
            async with self.engine.connect() as connection, connection.begin():
                if collection_id is not None:
                    await row_security.allow_collection(connection, collection_id)
                if all_collections:
                    await row_security.allow_all_collections(connection)
                yield connection
                committing = True
        except (PoolTimeout, OSError) as error:
            raise DatabaseUnavailable("all database connections are in use, or no connection can be opened") from error
        except DBAPIError as error:
            if not _is_outage(error):
                raise
            outcome = (
                "may have been stored; sending it again is safe with an Idempotency-Key"
                if committing
                else "changed nothing"
            )
            raise DatabaseUnavailable(f"the database is unreachable or overloaded; the request {outcome}") from error

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[AsyncConnection]:
        """Yields a connection outside any transaction and without a statement timeout, for building indexes."""
        async with self.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text("SET statement_timeout = 0"))
            try:
                yield connection
            finally:
                await connection.execute(text("RESET statement_timeout"))

    @property
    def pool(self) -> dict[str, int]:
        """The number of connections in use (`used`) and idle (`idle`)."""
        pool = self.engine.pool
        assert isinstance(pool, AsyncAdaptedQueuePool)
        return {"used": pool.checkedout(), "idle": pool.checkedin()}

    async def close(self) -> None:
        await self.engine.dispose()


def _is_outage(error: DBAPIError) -> bool:
    """Returns True if the connection or the server's resources caused the error, and not the statement."""
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        return error.connection_invalidated or isinstance(error, InterfaceError | OperationalError)
    return state[:2] in OUTAGE_CLASSES
