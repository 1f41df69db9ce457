"""Authenticates requests by API keys and checks their permissions."""

import uuid
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request
from fastapi.security import APIKeyHeader, HTTPAuthorizationCredentials, HTTPBearer

from service.api.state import State
from service.errors import NotAllowed, Unauthorized
from service.gallery.access.api_keys import ApiKey
from service.gallery.access.audit_entries import Actor
from service.gallery.access.scopes import Scope
from service.gallery.storage.connection_shares import CALLER

HEADER = APIKeyHeader(name="X-API-Key", auto_error=False)
BEARER = HTTPBearer(auto_error=False)


@dataclass(frozen=True)
class Access:
    """The rights of one request. `key`: None: the caller sent no key, and the service requires none."""

    key: ApiKey | None

    @property
    def collection(self) -> str | None:
        """The only collection that the caller may access; None: all."""
        return None if self.key is None else self.key.collection

    def actor(self, request: Request) -> Actor:
        """Returns the actor for the audit trail."""
        key_id, key_name = (None, None) if self.key is None else (self.key.id, self.key.name)
        return Actor(key_id, key_name, request.scope.get("request_id"), request.scope.get("client_address"))

    @property
    def own_jobs_only(self) -> uuid.UUID | None:
        """The key whose jobs the caller may see, because results of jobs name identities; None: all jobs."""
        return None if self.key is None or self.may_identify() else self.key.id

    def may_identify(self) -> bool:
        """Returns True if the caller may learn which identities are enrolled."""
        return self.key is None or bool(self.key.scopes & {Scope.SEARCH, Scope.MANAGE})

    def may_manage(self) -> bool:
        """Returns True if the caller may change existing identities."""
        return self.has(Scope.MANAGE)

    def has(self, scope: Scope) -> bool:
        return self.key is None or scope in self.key.scopes

    def require_scope(self, scope: Scope, pointer: str | None = None) -> None:
        """Raises NotAllowed if the key lacks the scope."""
        if self.key is not None and scope not in self.key.scopes:
            raise NotAllowed(
                f"the key {self.key.name!r} lacks the scope {scope.value!r}; send a key with this scope",
                pointer=pointer,
            )

    def require_all_collections(self, feature: str) -> None:
        """Raises NotAllowed if the key is restricted to one collection."""
        if self.collection is not None:
            raise NotAllowed(
                f"{feature} returns data about all collections, and the key is restricted to {self.collection!r}; "
                "send a key for all collections"
            )

    def require_collection(self, collection: str | None) -> None:
        """Raises NotAllowed if the key is restricted to another collection. None: all collections."""
        if self.key is not None and self.key.collection not in (None, collection):
            raise NotAllowed(
                f"the key {self.key.name!r} is restricted to the collection {self.key.collection!r}; name this "
                "collection, or send a key for all collections"
            )


def require(scope: Scope | None) -> Callable[..., AsyncIterator[Access]]:
    """Returns a FastAPI dependency that requires a key with the scope; None: any key.

    The dependency runs before the body is read. It checks every key that is sent, even if the service requires none. It
    raises Unauthorized, TooManyRequests, ServerBusy or NotAllowed.
    """

    async def access(
        request: Request,
        state: State,
        header: Annotated[str | None, Depends(HEADER)],
        bearer: Annotated[HTTPAuthorizationCredentials | None, Depends(BEARER)],
    ) -> AsyncIterator[Access]:
        secret = header or (bearer.credentials if bearer is not None else None)
        if secret is None:
            if not state.keys_required:
                yield Access(None)
                return
            raise Unauthorized("send an API key as `X-API-Key: ir_…` or `Authorization: Bearer ir_…`")
        if (key := await state.keys.find(secret)) is None:
            raise Unauthorized("the API key is unknown, has expired or was revoked")
        request.scope["key_id"] = str(key.id)
        state.rate_limiter.check(key)
        access = Access(key)
        if scope is not None:
            access.require_scope(scope)
        with state.rate_limiter.running(key):
            CALLER.set(key.id)
            yield access

    return access


AnyAccess = Annotated[Access, Depends(require(None))]
ManageAccess = Annotated[Access, Depends(require(Scope.MANAGE))]
MetricsAccess = Annotated[Access, Depends(require(Scope.METRICS))]
