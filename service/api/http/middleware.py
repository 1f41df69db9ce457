"""ASGI middleware of every request: request id, metrics and access log, check of the origin, limit of the body."""

import re
import time
import uuid
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.http.archives import is_zip, may_be_archive
from service.api.http.paths import path_of
from service.api.http.problems import problem
from service.errors import BodyTooLarge, ForeignOrigin
from service.telemetry import logs
from service.telemetry.metrics import REQUESTS

REQUEST_ID = "x-request-id"
METHODS = {"GET", "POST", "PATCH", "PUT", "DELETE"}
PICTURE_PATHS = re.compile(
    r"/(register|verify|search|embed|predict|identities/[^/]+/corrections)"
    r"|/api/v1/(recognition/(faces(/[^/]+/verify)?|recognize)|verification/verify)"
)
"""Paths of the operations whose bodies may contain pictures."""
VALID_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._~%!$&'()*+,;=-]*)(:[0-9]*)?")
"""Host and port of RFC 3986, 3.2.2. `urlsplit` raises ValueError for other names, or reads a part of them as a path."""
LOCAL_NAMES = frozenset({"localhost", "127.0.0.1", "::1"})
"""Host names of this machine for its own programs."""
VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestId:
    """Sets the id of each request: the client's `X-Request-Id` if it is valid, otherwise a random one.

    The response header, problem documents, log lines and audit entries contain the id.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        sent = Headers(scope=scope).get(REQUEST_ID, "")
        scope["request_id"] = sent if VALID_ID.fullmatch(sent) else uuid.uuid4().hex
        logs.REQUEST_ID.set(scope["request_id"])

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = scope["request_id"]
            await send(message)

        await self._app(scope, receive, send_with_id)


class RequestMetrics:
    """Measures the duration of requests by operation and writes the access log.

    An operation is the method and the pattern of the route. The URL is not recorded, because it contains ids and names.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, started = 500, time.perf_counter()

        async def send_and_record_status(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_and_record_status)
        finally:
            # Unknown methods and paths share one label: otherwise each would create a time series that never ends.
            route = scope.get("route")
            operation = "other" if route is None else f"{scope['method']} {route.path}"
            if operation.partition(" ")[0] not in METHODS:
                operation = "other"
            seconds = time.perf_counter() - started
            REQUESTS.labels(operation, status).observe(seconds)
            milliseconds, request_id = round(seconds * 1000, 1), scope.get("request_id")
            key_id = scope.get("key_id")
            fields = {"operation": operation, "status": status, "ms": milliseconds, "request_id": request_id}
            text = "%s %s in %.1f ms, request %s, key %s"
            extra = fields | {"key_id": key_id}
            logs.access.info(text, operation, status, milliseconds, request_id, key_id or "none", extra=extra)


class SameOrigin:
    """Refuses requests that a web page of another site sends through a browser.

    A page can send forms to every address that the browser reaches, including a registry on a loopback address.
    Browsers add the `Origin` header to such requests; other programs send none. The check of the `Host` header prevents
    DNS rebinding, with which a page reaches a loopback address under its own host name.

    Args:
        local_names: host names that the `Host` header may contain; None: every name.
        allowed_origins: origins of other sites whose pages may send requests (`server.cors_origins`).
    """

    def __init__(
        self, app: ASGIApp, local_names: frozenset[str] | None, allowed_origins: frozenset[str] = frozenset()
    ) -> None:
        self._app = app
        self._local_names, self._allowed_origins = local_names, allowed_origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (detail := self._problem(Headers(scope=scope))):
            await problem(ForeignOrigin(detail), Request(scope))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _problem(self, headers: Headers) -> str | None:
        """Returns the reason to refuse the request, or None."""
        host = headers.get("host", "")
        name = _host_name(host)
        if name is None:
            return (
                f"the Host header is {host[:80]!r}; send the host name or address, and the port, of the service's URL"
            )
        if self._local_names is not None and name not in self._local_names:
            valid = ", ".join(sorted(self._local_names))
            return (
                f"the Host header is {host[:80]!r}; without API keys the service accepts only {valid}: "
                "use a URL such as http://127.0.0.1:8000, or create keys and set server.require_keys=true"
            )
        origin = headers.get("origin")
        if origin is not None and origin not in self._allowed_origins and _origin_host(origin) != host:
            return (
                f"the Origin header is {origin[:80]!r} and the Host header is {host[:80]!r}: pages of other sites must "
                "not use this service unless server.cors_origins names them, and a proxy must pass the Host header "
                "unchanged"
            )
        return None


def _host_name(host: str) -> str | None:
    """Returns the name in a Host header, in lower case and without the port; None if the header is malformed."""
    try:
        return (urlsplit(f"//{host}").hostname or "") if VALID_HOST.fullmatch(host) else None
    except ValueError:  # an invalid address in brackets
        return None


def _origin_host(origin: str) -> str | None:
    """Returns host and port of an Origin header; None if it is malformed or `null`."""
    try:
        return urlsplit(origin).netloc or None
    except ValueError:
        return None


class BodyLimit:
    """Refuses a request whose body exceeds a limit, by its Content-Length or by the bytes that arrive.

    Args:
        max_bytes: limit of bodies with pictures.
        max_json_bytes: limit of all other bodies, except archives.
        max_archive_bytes: limit of zip files.
    """

    def __init__(
        self, app: ASGIApp, max_bytes: int, max_json_bytes: int | None = None, max_archive_bytes: int = 0
    ) -> None:
        self._app = app
        self._max_bytes, self._max_json_bytes = max_bytes, max_json_bytes
        self._max_archive_bytes = max_archive_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit, advice = self._limit(path_of(scope), headers)
        too_large = BodyTooLarge(f"the body has more than {limit:,} bytes; {advice}")
        declared = headers.get("content-length", "0")
        if declared.isascii() and declared.isdigit() and int(declared) > limit:
            await problem(too_large, Request(scope))(scope, receive, send)
            return
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > limit:
                raise too_large
            return message

        await self._app(scope, receive_counted, send)

    def _limit(self, path: str, headers: Headers) -> tuple[int, str]:
        """Returns the limit in bytes and the advice for a larger body."""
        if self._max_json_bytes is None or PICTURE_PATHS.fullmatch(path):
            return self._max_bytes, "send fewer or smaller pictures, or raise limits.max_body_bytes"
        if not may_be_archive(path):
            return self._max_json_bytes, "send less, or raise limits.max_json_bytes"
        if is_zip(headers):
            return self._max_archive_bytes, "split it into several archives, or raise limits.max_archive_bytes"
        return self._max_json_bytes, "send an archive as the body, with Content-Type application/zip"
