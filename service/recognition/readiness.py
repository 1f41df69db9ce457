"""Checks that the database responds and that this release is compatible with its schema."""

import asyncio
from dataclasses import dataclass

from service.errors import DatabaseUnavailable, Unavailable
from service.gallery.storage.database import Database
from service.gallery.storage.schema import Release, schema_problem

TIMEOUT_S = 5


@dataclass(frozen=True)
class Readiness:
    """The use case of the readiness probe."""

    database: Database
    release: Release

    async def check(self) -> str:
        """Returns the schema revision.

        Raises:
            DatabaseUnavailable: the database does not respond.
            Unavailable: this release cannot work with the schema.
        """
        try:
            async with asyncio.timeout(TIMEOUT_S), self.database.transaction() as connection:
                problem = await schema_problem(connection, self.release)
        except TimeoutError:
            raise DatabaseUnavailable(f"the database did not respond within {TIMEOUT_S} s") from None
        if problem is not None:
            raise Unavailable(problem)
        return self.release.wanted
