"""Sends requests and waits for the responses."""

from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from identity_registry.exchange import address, client_options, decode, request_options, unreachable
from identity_registry.requests import Listing, Request
from identity_registry.retries import RetryPolicy

Response = TypeVar("Response")
Item = TypeVar("Item")
TIMEOUT_S = 60.0
CHUNK_BYTES = 1024 * 1024


class SyncTransport:
    """A connection pool to one service. Several threads may use it at the same time.

    Args:
        url: of the service, such as http://127.0.0.1:8000.
        api_key: key of the service; None if the service requires none.
        timeout_s: longest wait for a connection, and for each part of a response.
        retries: which requests are repeated, and how often.
        transport: replaces the HTTP transport of httpx, for example for a proxy or a client certificate.

    Raises:
        ValueError: the URL is not an HTTP URL.
    """

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        retries: RetryPolicy = RetryPolicy(),  # noqa: B008  immutable
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._http = httpx.Client(**client_options(url, api_key, timeout_s), transport=transport)
        self._retries = retries

    def close(self) -> None:
        """Closes the connections."""
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({address(self._http.base_url)!r})"

    def _send(self, request: Request[Response]) -> Response:
        """Sends a request, and repeats it where the policy allows it. Raises RegistryError, OSError."""
        options = request_options(request)
        return self._retries.sync(request)(lambda: self._attempt(request, options))

    def _pages(self, listing: Listing[Item]) -> Iterator[Item]:
        """Yields every item of a list. Raises RegistryError, OSError."""
        page = self._send(listing.page(None))
        yield from page.items
        while page.next_cursor is not None:
            page = self._send(listing.page(page.next_cursor))
            yield from page.items

    def _attempt(self, request: Request[Response], options: dict[str, Any]) -> Response:
        content: dict[str, Any] = {} if request.archive is None else {"content": _chunks(request.archive)}
        try:
            response = self._http.request(**options, **content)
        except httpx.RequestError as error:
            raise unreachable(request, self._http.base_url, error) from error
        return decode(request, response)


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK_BYTES):
            yield chunk
