"""Sends requests with asyncio."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx

from identity_registry.exchange import address, client_options, decode, request_options, unreachable
from identity_registry.requests import Listing, Request
from identity_registry.retries import RetryPolicy
from identity_registry.sync_transport import CHUNK_BYTES, TIMEOUT_S

Response = TypeVar("Response")
Item = TypeVar("Item")


class AsyncTransport:
    """A connection pool to one service, for use in one event loop. Arguments and errors as for `SyncTransport`."""

    def __init__(
        self,
        url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = TIMEOUT_S,
        retries: RetryPolicy = RetryPolicy(),  # noqa: B008  immutable
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        self._http = httpx.AsyncClient(**client_options(url, api_key, timeout_s), transport=transport)
        self._retries = retries

    async def close(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    def __repr__(self) -> str:
        return f"{type(self).__name__}({address(self._http.base_url)!r})"

    async def _send(self, request: Request[Response]) -> Response:
        """Sends a request, and repeats it where the policy allows it. Raises RegistryError, OSError."""
        options = await asyncio.to_thread(request_options, request)
        return await self._retries.asynchronous(request)(self._attempt, request, options)

    async def _pages(self, listing: Listing[Item]) -> AsyncIterator[Item]:
        """Yields every item of a list. Raises RegistryError, OSError."""
        page = await self._send(listing.page(None))
        for item in page.items:
            yield item
        while page.next_cursor is not None:
            page = await self._send(listing.page(page.next_cursor))
            for item in page.items:
                yield item

    async def _attempt(self, request: Request[Response], options: dict[str, Any]) -> Response:
        content: dict[str, Any] = {} if request.archive is None else {"content": _chunks(request.archive)}
        try:
            response = await self._http.request(**options, **content)
        except httpx.RequestError as error:
            raise unreachable(request, self._http.base_url, error) from error
        return decode(request, response)


async def _chunks(file: Path) -> AsyncIterator[bytes]:
    """Yields the content of a file. Another thread reads it, so that the event loop does not wait for the disk."""
    opened = await asyncio.to_thread(file.open, "rb")
    try:
        while chunk := await asyncio.to_thread(opened.read, CHUNK_BYTES):
            yield chunk
    finally:
        opened.close()
