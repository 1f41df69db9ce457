"""The client for programs with asyncio."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx
from pydantic import BaseModel

from service.api.schemas.jobs import JobDetail
from service.client import operations
from service.client.answers import TIMEOUT_S, document, pause, require_operation, unreachable
from service.client.operations import DEFAULT, Listing, Operation
from service.client.sync import CHUNK, POLL_S

Answer = TypeVar("Answer", bound=BaseModel | None)
Item = TypeVar("Item")


class AsyncRegistry:
    """As `Registry`, with coroutines."""

    def __init__(self, url: str, api_key: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        headers = {} if api_key is None else {"X-API-Key": api_key}
        self._http = httpx.AsyncClient(base_url=url, headers=headers, timeout=timeout_s)

    async def close(self) -> None:
        await self._http.aclose()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def send(self, operation: Operation[Answer]) -> Answer:
        """The operation's answer.

        Raises:
            RegistryError: of the class that the service's problem has; Unavailable where it can't be reached.
        """
        require_operation(operation)
        attempt = 0
        while True:
            try:
                outcome = await self._request(operation)
                wait_s = pause(operation, attempt, outcome)
                if wait_s is None:
                    return document(operation, outcome)
            except httpx.TransportError as error:
                wait_s = pause(operation, attempt, error)
                if wait_s is None:
                    raise unreachable(operation, error) from error
            attempt += 1
            await asyncio.sleep(wait_s)

    async def all(self, listing: Listing[Item]) -> AsyncIterator[Item]:
        """Every item of a list, page by page. Raises as `send` does."""
        cursor: str | None = None
        while True:
            page = await self.send(listing.page(cursor))
            for item in listing.items_of(page):
                yield item
            if (cursor := page.next_cursor) is None:
                return

    async def wait_for_job(
        self, job_id: uuid.UUID, collection: str = DEFAULT, progress: Callable[[JobDetail], None] | None = None
    ) -> JobDetail:
        """Until the job has ended; `progress` is told twice a second how far it is. Raises as `send` does."""
        while True:
            detail = await self.send(operations.job(job_id, collection=collection))
            if progress is not None:
                progress(detail)
            if detail.finished_at is not None:
                return detail
            await asyncio.sleep(POLL_S)

    async def _request(self, operation: Operation[Answer]) -> httpx.Response:
        content = None if operation.file is None else _chunks(operation.file)
        return await self._http.request(
            operation.method,
            operation.path,
            params=operation.params,
            json=operation.body,
            content=content,
            headers=operation.headers,
        )


async def _chunks(file: Path) -> AsyncIterator[bytes]:
    """Read on another thread."""
    opened = await asyncio.to_thread(file.open, "rb")
    try:
        while chunk := await asyncio.to_thread(opened.read, CHUNK):
            yield chunk
    finally:
        opened.close()
