"""Response headers that keep browsers from guessing media types, storing data about people, and running content."""

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.http.paths import path_of

NO_CONTENT = "default-src 'none'; frame-ancestors 'none'"
PICTURE = "default-src 'none'; style-src 'unsafe-inline'; sandbox"
"""For pictures: an SVG file may contain scripts."""
PAGE = "frame-ancestors 'none'"
"""For the pages of /docs, whose scripts the service itself serves."""
PUBLIC_PREFIX = "/static-offline-docs"
"""The scripts and styles of /docs may be cached."""


class SecurityHeaders:
    """Sets `X-Content-Type-Options`, `Cache-Control` and `Content-Security-Policy` on every response."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers["x-content-type-options"] = "nosniff"
                headers["content-security-policy"] = _policy(headers.get("content-type", ""))
                if not path_of(scope).startswith(PUBLIC_PREFIX):
                    headers.setdefault("cache-control", "no-store")
            await send(message)

        await self._app(scope, receive, send_with_headers)


def _policy(media_type: str) -> str:
    if media_type.startswith("image/"):
        return PICTURE
    return PAGE if media_type.startswith("text/html") else NO_CONTENT
