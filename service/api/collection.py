"""The collection that a request is about."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated

from fastapi import Depends, Query
from sqlalchemy.ext.asyncio import AsyncConnection

from service.api.access import Access, require
from service.api.dependencies import Registry, RegistryDependency
from service.api.schemas import CollectionName
from service.gallery import collections
from service.gallery.collections import DEFAULT
from service.scopes import Scope


class OneCollection:
    """The collection, once the caller's key has been found to be for it."""

    def __init__(self, registry: Registry, access: Access, name: str) -> None:
        access.enter(name)
        self._registry, self.access, self.name = registry, access, name

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[tuple[AsyncConnection, uuid.UUID]]:
        """A transaction and the collection's id. Raises CollectionNotFound."""
        async with self._registry.database.transaction() as connection:
            yield connection, (await collections.get(connection, self.name)).id


def _within(scope: Scope) -> Callable[..., Awaitable[OneCollection]]:
    async def dependency(
        registry: RegistryDependency,
        access: Annotated[Access, Depends(require(scope))],
        collection: Annotated[CollectionName, Query()] = DEFAULT,
    ) -> OneCollection:
        return OneCollection(registry, access, collection)

    return dependency


InCollection = Annotated[OneCollection, Depends(_within(Scope.MANAGE))]
EnrolInCollection = Annotated[OneCollection, Depends(_within(Scope.ENROL))]
