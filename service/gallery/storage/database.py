"""Connections and transactions, and what becomes of their failures."""

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
"""SQLSTATE classes: connection, rollback, resources, locks, operator."""


class Database:
    """A pool of connections to one PostgreSQL database.

    Args:
        role: account whose rights every connection has, in the place of those of who logs in.
    """

    def __init__(self, url: str, pool_size: int = 10, pool_timeout_s: float = 5.0, role: str | None = None) -> None:
        self.url = url
        options = f"-c statement_timeout={STATEMENT_TIMEOUT_S}s" + (f" -c role={role}" if role else "")
        self.engine: AsyncEngine = create_async_engine(
            url,
            pool_size=pool_size,
            max_overflow=0,
            pool_timeout=pool_timeout_s,
            # A connection that died while it was idle is replaced before a request sees it.
            pool_pre_ping=True,
            connect_args={
                "connect_timeout": CONNECT_TIMEOUT_S,
                "application_name": "identity-registry",
                # A database that hangs must not hang its clients with it.
                "tcp_user_timeout": STATEMENT_TIMEOUT_S * 1000,
                "options": options,
            },
            hide_parameters=True,
        )

    @asynccontextmanager
    async def transaction(
        self, within: uuid.UUID | None = None, everything: bool = False
    ) -> AsyncIterator[AsyncConnection]:
        """One transaction: committed where the block ends, rolled back where it raises.

        Args:
            within: a collection whose rows are meant; `collections.get` enters one as well.
            everything: what is done concerns all collections.

        Raises:
            DatabaseUnavailable: no connection could be had, it broke on the way, or the server had no room or time.
        """
        committing = False
        try:
            async with self.engine.connect() as connection, connection.begin():
                if within is not None:
                    await row_security.allow_collection(connection, within)
                if everything:
                    await row_security.allow_all_collections(connection)
                yield connection
                committing = True
        except (PoolTimeout, OSError) as error:
            raise DatabaseUnavailable("every connection to the database is in use, or none can be made") from error
        except DBAPIError as error:
            if not _is_outage(error):
                raise
            outcome = (
                "may or may not have been stored; sending it again is harmless" if committing else "changed nothing"
            )
            raise DatabaseUnavailable(f"the database can't be reached or can't cope; the request {outcome}") from error

    @asynccontextmanager
    async def autocommit(self) -> AsyncIterator[AsyncConnection]:
        """A connection outside any transaction and without a time limit, to build indexes with."""
        async with self.engine.connect() as connection:
            await connection.execution_options(isolation_level="AUTOCOMMIT")
            await connection.execute(text("SET statement_timeout = 0"))
            try:
                yield connection
            finally:
                await connection.execute(text("RESET statement_timeout"))

    @property
    def pool(self) -> dict[str, int]:
        """How many connections are in use, and how many wait to be used."""
        pool = self.engine.pool
        assert isinstance(pool, AsyncAdaptedQueuePool)
        return {"used": pool.checkedout(), "idle": pool.checkedin()}

    async def close(self) -> None:
        await self.engine.dispose()


def _is_outage(error: DBAPIError) -> bool:
    """Whether the fault lies with the connection or the server's resources, and not with the statement."""
    state = getattr(error.orig, "sqlstate", None)
    if state is None:
        return error.connection_invalidated or isinstance(error, InterfaceError | OperationalError)
    return state[:2] in OUTAGE_CLASSES
