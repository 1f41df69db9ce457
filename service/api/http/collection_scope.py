"""The query parameter `collection`, which every operation on a collection has."""

from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Query, Request

from service.api.http.access import Access, require
from service.api.schemas.fields import CollectionName
from service.gallery.access.audit_entries import Actor
from service.gallery.access.scopes import Scope
from service.gallery.people.collections import DEFAULT


class CollectionScope:
    """The collection of a request and the rights of the caller.

    Raises:
        NotAllowed: the caller's key is restricted to another collection.
    """

    def __init__(self, access: Access, name: str, request: Request) -> None:
        access.require_collection(name)
        self.access, self.name = access, name
        self.actor: Actor = access.actor(request)


def _in_collection(scope: Scope) -> Callable[..., Awaitable[CollectionScope]]:
    async def dependency(
        request: Request,
        access: Annotated[Access, Depends(require(scope))],
        collection: Annotated[CollectionName, Query(description="name of the collection")] = DEFAULT,
    ) -> CollectionScope:
        return CollectionScope(access, collection, request)

    return dependency


def _of_key(scope: Scope) -> Callable[..., Awaitable[CollectionScope]]:
    async def dependency(request: Request, access: Annotated[Access, Depends(require(scope))]) -> CollectionScope:
        return CollectionScope(access, access.collection or DEFAULT, request)

    return dependency


EnrolScope = Annotated[CollectionScope, Depends(_in_collection(Scope.ENROL))]
VerifyScope = Annotated[CollectionScope, Depends(_in_collection(Scope.VERIFY))]
SearchScope = Annotated[CollectionScope, Depends(_in_collection(Scope.SEARCH))]
ManageScope = Annotated[CollectionScope, Depends(_in_collection(Scope.MANAGE))]
EmbeddingsScope = Annotated[CollectionScope, Depends(_in_collection(Scope.EMBEDDINGS))]
AuditScope = Annotated[CollectionScope, Depends(_in_collection(Scope.AUDIT))]
# The collection to which the caller's key is restricted, or `default`.
KeyEnrolScope = Annotated[CollectionScope, Depends(_of_key(Scope.ENROL))]
KeyVerifyScope = Annotated[CollectionScope, Depends(_of_key(Scope.VERIFY))]
KeySearchScope = Annotated[CollectionScope, Depends(_of_key(Scope.SEARCH))]
KeyManageScope = Annotated[CollectionScope, Depends(_of_key(Scope.MANAGE))]
