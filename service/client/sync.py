"""The client for programs without asyncio."""

import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

import httpx
from pydantic import BaseModel

from service.api.schemas.jobs import JobDetail
from service.client import operations
from service.client.answers import TIMEOUT_S, document, pause, require_operation, unreachable
from service.client.operations import DEFAULT, Listing, Operation

Answer = TypeVar("Answer", bound=BaseModel | None)
Item = TypeVar("Item")
CHUNK = 1024 * 1024
POLL_S = 0.5


class Registry:
    """A registry at an address such as http://127.0.0.1:8000."""

    def __init__(self, url: str, api_key: str | None = None, timeout_s: float = TIMEOUT_S) -> None:
        headers = {} if api_key is None else {"X-API-Key": api_key}
        self._http = httpx.Client(base_url=url, headers=headers, timeout=timeout_s)

    def close(self) -> None:
        self._http.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def send(self, operation: Operation[Answer]) -> Answer:
        """The operation's answer.

        Raises:
            RegistryError: of the class that the service's problem has; Unavailable where it can't be reached.
        """
        require_operation(operation)
        attempt = 0
        while True:
            try:
                outcome = self._request(operation)
                wait_s = pause(operation, attempt, outcome)
                if wait_s is None:
                    return document(operation, outcome)
            except httpx.TransportError as error:
                wait_s = pause(operation, attempt, error)
                if wait_s is None:
                    raise unreachable(operation, error) from error
            attempt += 1
            time.sleep(wait_s)

    def all(self, listing: Listing[Item]) -> Iterator[Item]:
        """Every item of a list, page by page. Raises as `send` does."""
        cursor: str | None = None
        while True:
            page = self.send(listing.page(cursor))
            yield from listing.items_of(page)
            if (cursor := page.next_cursor) is None:
                return

    def wait_for_job(
        self, job_id: uuid.UUID, collection: str = DEFAULT, progress: Callable[[JobDetail], None] | None = None
    ) -> JobDetail:
        """Until the job has ended; `progress` is told twice a second how far it is. Raises as `send` does."""
        while True:
            detail = self.send(operations.job(job_id, collection=collection))
            if progress is not None:
                progress(detail)
            if detail.finished_at is not None:
                return detail
            time.sleep(POLL_S)

    def _request(self, operation: Operation[Answer]) -> httpx.Response:
        content = None if operation.file is None else _chunks(operation.file)
        return self._http.request(
            operation.method,
            operation.path,
            params=operation.params,
            json=operation.body,
            content=content,
            headers=operation.headers,
        )


def _chunks(file: Path) -> Iterator[bytes]:
    with file.open("rb") as opened:
        while chunk := opened.read(CHUNK):
            yield chunk
