"""What every request passes through: an id, a check where it comes from, and a limit on its body."""

import re
import time
import uuid
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.datastructures import Headers, MutableHeaders
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.http.problems import problem
from service.errors import BodyTooLarge, ForeignOrigin
from service.telemetry import logs
from service.telemetry.metrics import REQUESTS

REQUEST_ID = "x-request-id"
METHODS = {"GET", "POST", "PATCH", "DELETE"}
ACCEPTABLE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


class RequestId:
    """Takes the caller's `X-Request-Id`, or makes one; it stands in the answer, in problems and in the log."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        given = Headers(scope=scope).get(REQUEST_ID, "")
        scope["request_id"] = given if ACCEPTABLE_ID.fullmatch(given) else uuid.uuid4().hex
        logs.REQUEST_ID.set(scope["request_id"])

        async def send_with_id(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers[REQUEST_ID] = scope["request_id"]
            await send(message)

        await self._app(scope, receive, send_with_id)


class RequestMetrics:
    """Counts and times requests by operation: the route's pattern, never the address with what is in it."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        status, started = 500, time.perf_counter()

        async def send_noted(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        try:
            await self._app(scope, receive, send_noted)
        finally:
            # Only what the service has itself: a stranger's own methods and paths would each be a series for ever.
            route = scope.get("route")
            operation = "other" if route is None else f"{scope['method']} {route.path}"
            if operation.partition(" ")[0] not in METHODS:
                operation = "other"
            seconds = time.perf_counter() - started
            REQUESTS.labels(operation, status).observe(seconds)
            told = {"operation": operation, "status": status, "ms": round(seconds * 1000, 1)}
            request_id = scope.get("request_id")
            words = "%s %s in %.1f ms, request %s"
            logs.access.info(words, operation, status, told["ms"], request_id, extra=told | {"request_id": request_id})


class SameOrigin:
    """Refuses what a web page of another site makes a browser send.

    A page may post a form to any address that its visitor's browser can reach, a registry on loopback included.
    Browsers say where such a request comes from; programs send no `Origin`. With `local_names` set, the `Host` must be
    one of them as well, so that no foreign name can be pointed at this machine (DNS rebinding).
    """

    def __init__(self, app: ASGIApp, local_names: frozenset[str] | None) -> None:
        self._app = app
        self._local_names = local_names

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and (words := self._objection(Headers(scope=scope))):
            await problem(ForeignOrigin(words), Request(scope))(scope, receive, send)
            return
        await self._app(scope, receive, send)

    def _objection(self, headers: Headers) -> str | None:
        host = headers.get("host", "")
        if self._local_names is not None and _name_of(host) not in self._local_names:
            return f"the service is bound to this machine and does not answer for {host[:80]!r}"
        origin = headers.get("origin")
        if origin is not None and urlsplit(origin).netloc != host:
            return "pages of other sites may not use this service"
        return None


def _name_of(host: str) -> str:
    return urlsplit(f"//{host}").hostname or ""


class BodyLimit:
    """Refuses a body that declares, or turns out to have, more bytes than allowed."""

    def __init__(self, app: ASGIApp, max_bytes: int, archives: Mapping[str, int] | None = None) -> None:
        """`archives`: for zip files that are sent to these paths, which go to the disk as they come, other limits."""
        self._app = app
        self._max_bytes = max_bytes
        self._archives = archives or {}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        limit, change = self._limit(scope["path"], headers)
        too_large = BodyTooLarge(f"at most {limit:,} bytes are allowed in this request; {change}")
        declared = headers.get("content-length", "0")
        if declared.isdigit() and int(declared) > limit:
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
        """How many bytes, and what to do about more."""
        if path not in self._archives:
            return self._max_bytes, "send fewer or smaller images"
        if headers.get("content-type", "").partition(";")[0].strip().lower() == "application/zip":
            return self._archives[path], "make several archives"
        return self._max_bytes, "send an archive as it is, with Content-Type application/zip"
