"""Connections and transactions, and the mapping of their failures to service errors."""

import uuid
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any

import psycopg
from sqlalchemy import AsyncAdaptedQueuePool, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from service.errors import DatabaseUnavailable
from service.gallery.storage import row_security
from service.gallery.storage.connection_shares import ConnectionShares
from service.gallery.storage.deadlines import DeadlineConnection, deadline
from service.gallery.storage.idle_connections import replace_broken_connections

CONNECT_TIMEOUT_S = 3
STATEMENT_TIMEOUT_S = 5
"""Time limit that the server enforces for each statement of an ordinary transaction."""
TRANSACTION_TIMEOUT_S = 8.0
"""Time limit that the client enforces for the statements of an ordinary transaction together."""
LONG_S = 120.0
"""Time limit of transactions that may change all templates of an identity or all identities of a collection."""
BACKGROUND_S = 6 * 3600.0
"""Time limit of transactions that no request waits for."""
OUTAGE_CLASSES = {"08", "40", "53", "55", "57"}
"""SQLSTATE classes: connection exception, rollback, insufficient resources, lock, operator intervention."""
CITUS_OUTAGES = (
    "server closed the connection unexpectedly",
    "failure on connection marked as essential",
    "could not find valid entry for shard",
)
"""Messages of Citus's internal errors (XX000): a node has failed, or a shard was divided during a statement."""


class Database:
    """A pool of connections to one PostgreSQL database.

    One API key uses at most half of the connections at the same time.

    Args:
        role: every connection assumes the rights of this role (`SET role`).
    """

    def __init__(self, url: str, pool_size: int = 10, pool_timeout_s: float = 5.0, role: str | None = None) -> None:
        self.url = url
        self._pool_timeout_s = pool_timeout_s
        self._shares = ConnectionShares(max(1, pool_size // 2))
        self._role_option = f"-c role={role}" if role else ""
        self._parameters: dict[str, Any] = {
            "connect_timeout": CONNECT_TIMEOUT_S,
            "application_name": "identity-registry",
            # Bounds how long a connection waits for a machine that is gone, for operations without a deadline.
            "tcp_user_timeout": 30_000,
        }
        self.engine: AsyncEngine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=pool_timeout_s,
            connect_args={
                "async_creator_fn": DeadlineConnection.connect,
                "options": f"-c statement_timeout={STATEMENT_TIMEOUT_S}s {self._role_option}",
                **self._parameters,
            },
            hide_parameters=True,
        )
        replace_broken_connections(self.engine)

    @asynccontextmanager
    async def transaction(
        self,
        collection_id: uuid.UUID | None = None,
        all_collections: bool = False,
        timeout_s: float = TRANSACTION_TIMEOUT_S,
    ) -> AsyncIterator[AsyncConnection]:
        """Opens one transaction, commits it at the end of the block, and rolls it back if the block raises.

        Args:
            collection_id: row-level security shows the rows of this collection. `collections.get` adds others.
            all_collections: row-level security shows the rows of all collections.
            timeout_s: time limit of the whole transaction in seconds. It holds even if the server does not respond.

        Raises:
            DatabaseUnavailable: no connection is free or can be opened, the connection broke, or the server lacks
                resources or time.
        """
        committing = False
        try:
            async with self._begin(timeout_s) as connection:
                if collection_id is not None:
                    await row_security.allow_collection(connection, collection_id)
                if all_collections:
                    await row_security.allow_all_collections(connection)
                yield connection
                committing = True
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
    async def _begin(self, timeout_s: float) -> AsyncIterator[AsyncConnection]:
        """Opens a transaction. Only errors of this function, and not those of the block, mean an outage."""
        async with AsyncExitStack() as stack:
            try:
                await stack.enter_async_context(self._shares.share(self._pool_timeout_s))
                with deadline(CONNECT_TIMEOUT_S):  # the test of a pooled connection, which may have broken
                    connection = await stack.enter_async_context(self.engine.connect())
                stack.enter_context(deadline(timeout_s))
                await stack.enter_async_context(connection.begin())
                if timeout_s > TRANSACTION_TIMEOUT_S:
                    await connection.execute(text(f"SET LOCAL statement_timeout = '{timeout_s:.0f}s'"))
            except (PoolTimeout, OSError) as error:
                raise DatabaseUnavailable(
                    "all database connections are in use, or no connection can be opened"
                ) from error
            yield connection

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

    def connect(self) -> "psycopg.Connection[tuple[Any, ...]]":
        """Opens a connection outside the pool, for work in a thread. Its statements have no timeout.

        Raises:
            psycopg.OperationalError: the server does not respond.
        """
        conninfo = self.url.replace("postgresql+psycopg://", "postgresql://", 1)
        return psycopg.connect(conninfo, **self._parameters, options=self._role_option)

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
    is_outage_of_node = state == "XX000" and any(message in str(error.orig) for message in CITUS_OUTAGES)
    return state[:2] in OUTAGE_CLASSES or is_outage_of_node
