"""Protection of a service that requires no API keys, which everybody who reaches it may use."""

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Receive, Scope, Send

from service.api.http.paths import path_of
from service.api.http.problems import problem
from service.errors import ForeignOrigin

FORWARDING = ("forwarded", "via", "x-forwarded-for", "x-forwarded-host", "x-forwarded-proto", "x-real-ip")
FOREIGN_SITES = frozenset({"cross-site", "same-site"})
DOCUMENTATION = frozenset({"/", "/docs", "/redoc"})


class OpenAccess:
    """Refuses requests that web pages of other sites send, and those that a proxy passes on from other machines.

    Args:
        behind_proxy: the operator states that a proxy restricts access (`server.allow_unauthenticated`).
        allowed_origins: origins of other sites whose pages may send requests (`server.cors_origins`).
    """

    def __init__(self, app: ASGIApp, behind_proxy: bool, allowed_origins: frozenset[str] = frozenset()) -> None:
        self._app, self._behind_proxy, self._allowed_origins = app, behind_proxy, allowed_origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (detail := self._problem(scope, Headers(scope=scope))):
            await problem(ForeignOrigin(detail), Request(scope))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _problem(self, scope: Scope, headers: Headers) -> str | None:
        """Returns the reason to refuse the request, or None."""
        forwarded = [] if self._behind_proxy else [name for name in FORWARDING if name in headers]
        if forwarded:
            return (
                f"the request has the header {forwarded[0]!r}: a proxy makes this service reachable for others, and it "
                "requires no API keys. Create keys and set server.require_keys=true, or set "
                "server.allow_unauthenticated=true if the proxy restricts access"
            )
        is_link = scope["method"] == "GET" and path_of(scope) in DOCUMENTATION
        is_foreign = headers.get("sec-fetch-site") in FOREIGN_SITES
        if is_foreign and not is_link and headers.get("origin") not in self._allowed_origins:
            return "a web page of another site sent the request; pages of other sites must not use this service"
        return None
