"""The collection that a request is about."""

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Annotated, Any

from fastapi import Depends, Query, Request
from sqlalchemy.ext.asyncio import AsyncConnection

from service.api.http.access import Access, require
from service.api.schemas.all_schemas import CollectionName
from service.api.state import Registry, RegistryDependency
from service.gallery.access.audit import Action, Event
from service.gallery.access.scopes import Scope
from service.gallery.people import collections
from service.gallery.people.collections import DEFAULT, Collection


class CollectionScope:
    """The collection, once the caller's key has been found to be for it."""

    def __init__(self, registry: Registry, access: Access, name: str, request: Request) -> None:
        access.enter(name)
        self._registry, self.access, self.name = registry, access, name
        self.actor = access.actor(request)

    @asynccontextmanager
    async def opened(self) -> AsyncIterator[tuple[AsyncConnection, Collection]]:
        """A transaction and the collection. Raises CollectionNotFound."""
        async with self._registry.database.transaction() as connection:
            yield connection, await collections.get(connection, self.name)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[tuple[AsyncConnection, uuid.UUID]]:
        """A transaction and the collection's id. Raises CollectionNotFound."""
        async with self.opened() as (connection, found):
            yield connection, found.id

    async def record(
        self,
        connection: AsyncConnection,
        collection_id: uuid.UUID,
        action: Action,
        identity_id: uuid.UUID | None = None,
        **details: Any,
    ) -> None:
        """Write down what the caller did; the last thing in the transaction."""
        event = Event(action, self.actor, identity_id, details)
        await self._registry.trail.append(connection, collection_id, [event])


def _within(scope: Scope) -> Callable[..., Awaitable[CollectionScope]]:
    async def dependency(
        request: Request,
        registry: RegistryDependency,
        access: Annotated[Access, Depends(require(scope))],
        collection: Annotated[CollectionName, Query()] = DEFAULT,
    ) -> CollectionScope:
        return CollectionScope(registry, access, collection, request)

    return dependency


InCollection = Annotated[CollectionScope, Depends(_within(Scope.MANAGE))]
EnrolInCollection = Annotated[CollectionScope, Depends(_within(Scope.ENROL))]
AuditInCollection = Annotated[CollectionScope, Depends(_within(Scope.AUDIT))]
