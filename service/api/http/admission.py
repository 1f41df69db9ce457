"""Admission control: refuses requests beyond limits of number and bytes before their bodies are read, and slow ones."""

import asyncio
import contextlib
from collections.abc import Awaitable, Iterator
from dataclasses import dataclass
from functools import partial

from starlette.datastructures import Headers
from starlette.requests import Request
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from service.api.http.archives import is_zip, may_be_archive
from service.api.http.paths import path_of
from service.api.http.problems import problem
from service.errors import RequestTimeout, ServerBusy

CLOSED = "handler is closed"
HEALTH_PATHS = frozenset({"/healthz", "/readyz", "/metrics"})
"""An overloaded service still answers these, so that it is not restarted because of its load."""


@dataclass(frozen=True, slots=True)
class AdmissionLimits:
    """Limits of one process.

    Attributes:
        max_requests: concurrent requests.
        max_bytes: bytes of all bodies that are received or held.
        body_timeout_s: seconds for a whole body; None: unlimited.
        idle_timeout_s: seconds until the next part of a body arrives, or the client reads a part of the response.
    """

    max_requests: int
    max_bytes: int
    body_timeout_s: float | None
    idle_timeout_s: float


class Admission:
    """Counts requests and the bytes of their bodies. Bodies that are written to disk in parts count by their parts.

    A zip file, which its route writes to disk, has no `body_timeout_s`.
    """

    def __init__(self, app: ASGIApp, limits: AdmissionLimits) -> None:
        self._app, self._limits = app, limits
        self._requests = self._bytes = 0

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or path_of(scope) in HEALTH_PATHS:
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        streamed = may_be_archive(path_of(scope)) and is_zip(headers)
        declared = headers.get("content-length", "")
        body = _Body(int(declared) if not streamed and declared.isascii() and declared.isdigit() else 0, streamed)
        try:
            with self._admitted(body):
                await self._app(scope, partial(self._receive, receive, body), partial(self._send, send, body))
        except ServerBusy as error:
            await problem(error, Request(scope))(scope, receive, send)

    @contextlib.contextmanager
    def _admitted(self, body: "_Body") -> Iterator[None]:
        """Counts a request while the block runs. Raises ServerBusy if it exceeds a limit."""
        if self._requests >= self._limits.max_requests:
            raise ServerBusy(f"the service is processing {self._requests} requests; try again later")
        self._require_room(body.counted)
        self._requests += 1
        self._bytes += body.counted
        try:
            yield
        finally:
            self._requests -= 1
            self._bytes -= body.counted

    def _require_room(self, size: int) -> None:
        if self._bytes and self._bytes + size > self._limits.max_bytes:
            raise ServerBusy(f"the service is receiving {self._bytes:,} bytes of other requests; try again later")

    async def _receive(self, receive: Receive, body: "_Body") -> Message:
        if body.is_complete:
            return await receive()  # waits for the client's disconnection
        message = await self._in_time(receive(), body)
        body.is_complete = not message.get("more_body", False)
        if body.is_streamed:
            return message
        body.received += len(message.get("body", b""))
        if (more := body.received - body.counted) > 0:  # the length was not declared
            self._require_room(more)
            self._bytes, body.counted = self._bytes + more, body.received
        return message

    async def _in_time(self, part: Awaitable[Message], body: "_Body") -> Message:
        """Waits for the next part of a body. Raises RequestTimeout."""
        remaining = self._limits.idle_timeout_s
        if not body.is_streamed and self._limits.body_timeout_s is not None:
            remaining = min(remaining, body.started + self._limits.body_timeout_s - asyncio.get_running_loop().time())
        try:
            async with asyncio.timeout(max(remaining, 0)):
                return await part
        except TimeoutError:
            raise RequestTimeout("the body of the request did not arrive in time; send it faster") from None

    async def _send(self, send: Send, body: "_Body", message: Message) -> None:
        """Sends a part of the response, and drops the rest of the response if the client does not read it.

        The server closes the connection of an incomplete response.
        """
        if body.is_unread:
            return
        try:
            async with asyncio.timeout(self._limits.idle_timeout_s):
                await send(message)
        except TimeoutError:
            body.is_unread = True
        except RuntimeError as error:
            # uvicorn closes the connection if invalid bytes follow the request, and uvloop then refuses to write.
            if CLOSED not in str(error):
                raise
            body.is_unread = True


class _Body:
    """The bytes of one request that count for the limit, those that have arrived, and the state of its transfer."""

    def __init__(self, declared: int, is_streamed: bool) -> None:
        self.counted, self.received = declared, 0
        self.is_streamed, self.is_complete, self.is_unread = is_streamed, False, False
        self.started = asyncio.get_running_loop().time()
