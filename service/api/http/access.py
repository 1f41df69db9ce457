"""Who asks, and whether they may."""

import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from service.api.state import RegistryDependency
from service.errors import NotAllowed, Unauthorized
from service.gallery.access.api_keys import ApiKey
from service.gallery.access.audit import Actor
from service.gallery.access.scopes import Scope

HEADER = APIKeyHeader(name="X-API-Key", auto_error=False)
BEARER = HTTPBearer(auto_error=False)


@dataclass(frozen=True)
class Access:
    """What one request may do. `key` None: none was sent, and the service asks for none."""

    key: ApiKey | None

    @property
    def collection(self) -> str | None:
        """The only collection that the caller may know of; None: all."""
        return None if self.key is None else self.key.collection

    def actor(self, request: Request) -> Actor:
        """Who asks, for the audit trail."""
        request_id = request.scope.get("request_id")
        return Actor(None, None, request_id) if self.key is None else Actor(self.key.id, self.key.name, request_id)

    @property
    def own_jobs_only(self) -> uuid.UUID | None:
        """The key whose jobs alone the caller may know of: results name people. None: everybody's."""
        return None if self.key is None or self.may_name_others() else self.key.id

    def may_name_others(self) -> bool:
        """Whether the caller may learn who else is enrolled."""
        return self.key is None or bool(self.key.scopes & {Scope.SEARCH, Scope.MANAGE})

    def has(self, scope: Scope) -> bool:
        return self.key is None or scope in self.key.scopes

    def require_scope(self, scope: Scope, pointer: str | None = None) -> None:
        """Raises NotAllowed."""
        if self.key is not None and scope not in self.key.scopes:
            raise NotAllowed(f"the key {self.key.name!r} lacks the scope {scope.value!r}", pointer=pointer)

    def require_all_collections(self, what: str) -> None:
        """Raises NotAllowed where the key is for one collection."""
        if self.collection is not None:
            raise NotAllowed(f"{what} tells of the database as a whole, and the key is for {self.collection!r} only")

    def enter(self, collection: str | None) -> None:
        """Raises NotAllowed where the key is for another collection; None stands for all of them."""
        if self.key is not None and self.key.collection not in (None, collection):
            raise NotAllowed(f"the key {self.key.name!r} is for the collection {self.key.collection!r} only")


def require(scope: Scope | None) -> Callable[..., Awaitable[Access]]:
    """A dependency that lets in who has a key with the scope; None: with any key.

    It runs before anything of the body is read. A key that is sent counts, also where none is asked for.
    """

    async def access(
        registry: RegistryDependency,
        header: Annotated[str | None, Depends(HEADER)],
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)],
    ) -> Access:
        secret = header or (bearer.credentials if bearer is not None else None)
        if secret is None:
            if not registry.keys_required:
                return Access(None)
            raise Unauthorized("send an API key, as `X-API-Key: ir_…` or `Authorization: Bearer ir_…`")
        if (key := await registry.keys.find(secret)) is None:
            raise Unauthorized("the API key is unknown, has expired or was revoked")
        registry.rates.count(key)
        access = Access(key)
        if scope is not None:
            access.require_scope(scope)
        return access

    return access


AnyAccess = Annotated[Access, Depends(require(None))]
EnrolAccess = Annotated[Access, Depends(require(Scope.ENROL))]
VerifyAccess = Annotated[Access, Depends(require(Scope.VERIFY))]
SearchAccess = Annotated[Access, Depends(require(Scope.SEARCH))]
ManageAccess = Annotated[Access, Depends(require(Scope.MANAGE))]
EmbeddingsAccess = Annotated[Access, Depends(require(Scope.EMBEDDINGS))]
AuditAccess = Annotated[Access, Depends(require(Scope.AUDIT))]
MetricsAccess = Annotated[Access, Depends(require(Scope.METRICS))]
