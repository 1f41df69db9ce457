"""The HTTP/1.1 protocol of uvicorn with limits for the headers of a request, which no ASGI middleware can set."""

import asyncio
from functools import partial
from typing import Any

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

MAX_HEADER_BYTES = 64 * 1024


class BoundedHttpProtocol(HttpToolsProtocol):
    """Closes a connection whose request headers do not arrive in time, or are too long.

    A connection without a request counts too: it must send one, or `timeout_keep_alive` closes it after a request.
    """

    def __init__(self, *arguments: Any, headers_timeout_s: float, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._headers_timeout_s = headers_timeout_s

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        super().connection_made(transport)
        self._header_bytes = 0
        self._header_timer: asyncio.TimerHandle | None = None
        self._await_headers()

    def data_received(self, data: bytes) -> None:
        if self._header_timer is not None:
            self._header_bytes += len(data)
        super().data_received(data)
        if self._header_timer is not None and self._header_bytes > MAX_HEADER_BYTES:
            self.transport.abort()

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._await_headers()

    def on_headers_complete(self) -> None:
        self._cancel_timer()
        super().on_headers_complete()

    def shutdown(self) -> None:
        """Closes an idle connection. With TLS, `close` would wait 30 s for a client that does not read (asyncio)."""
        is_idle = self.cycle is None or self.cycle.response_complete
        is_encrypted = self.transport.get_extra_info("sslcontext") is not None
        if is_idle and is_encrypted and self.transport.get_write_buffer_size() == 0:
            self.transport.abort()
        else:
            super().shutdown()

    def connection_lost(self, exc: Exception | None) -> None:
        self._cancel_timer()
        super().connection_lost(exc)

    def _await_headers(self) -> None:
        if self._header_timer is None:
            self._header_bytes = 0
            self._header_timer = self.loop.call_later(self._headers_timeout_s, self.transport.abort)

    def _cancel_timer(self) -> None:
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None


def bounded_protocol(headers_timeout_s: float) -> Any:
    """Returns the protocol with this time limit in seconds. uvicorn pickles it for its worker processes."""
    return partial(BoundedHttpProtocol, headers_timeout_s=headers_timeout_s)
