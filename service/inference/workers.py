"""The workers behind one or several names, and which of them to ask next.

Names are resolved here and not by the connection pool: a connection that is kept alive would stay with the worker it
once met, however many others have joined.
"""

import asyncio
import contextlib
import logging
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from service.telemetry.metrics import WORKERS

WATCH_S = 0.5
RESOLVE_TIMEOUT_S = 2.0
log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Worker:
    """One worker's address, and how busy we keep it."""

    address: str
    """`http://10.0.0.3:8001`"""
    url: SplitResult
    """The URL that it was found by; its name is what Host header and certificate are about."""
    is_ready: bool = False
    in_flight: int = 0
    asked: int = 0
    """Pictures that were ever sent to it."""


class Workers:
    """Knows who is there: resolves the names again and again, and asks those that failed whether they are back."""

    def __init__(self, urls: Sequence[str], probe: Callable[[Worker], Awaitable[bool]]) -> None:
        self._urls = [urlsplit(url) for url in urls]
        self._figure = WORKERS.labels(", ".join(urls))
        self._probe = probe
        self._known: dict[str, Worker] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    async def start(self) -> None:
        await self.refresh()
        self._watcher = asyncio.create_task(self._watch(), name="workers")

    async def stop(self) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._watcher

    @property
    def ready(self) -> list[Worker]:
        return [worker for worker in self._known.values() if worker.is_ready]

    def choose(self, excluded: Collection[Worker] = ()) -> Worker | None:
        """The one with the fewest of our pictures at present; among equals, the one with the fewest so far."""
        candidates = [worker for worker in self.ready if worker not in excluded]
        return min(candidates, key=lambda worker: (worker.in_flight, worker.asked), default=None)

    async def wait(self) -> None:
        """Until a worker has become ready, or all have been looked for once more."""
        await self._changed.wait()

    def lost(self, worker: Worker) -> None:
        """Leave a worker alone until it answers a probe."""
        if worker.is_ready:
            log.warning("worker %s is lost", worker.address)
        worker.is_ready = False
        self._figure.set(len(self.ready))

    async def refresh(self) -> None:
        """Resolve every name, forget workers that left, and probe those that are not ready."""
        try:
            found: dict[str, Worker] = {}
            for workers in await asyncio.gather(*(self._behind(url) for url in self._urls)):
                found |= {worker.address: worker for worker in workers}
            self._known = found
            await asyncio.gather(*(self._check(worker) for worker in found.values() if not worker.is_ready))
        finally:
            self._figure.set(len(self.ready))
            self._notify()

    async def _behind(self, url: SplitResult) -> list[Worker]:
        """One worker for each address of a name; while it can't be resolved, those whom it stood for last."""
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_S):
                addresses = await _addresses(url)
        except (OSError, UnicodeError):  # a TimeoutError is an OSError
            return [worker for worker in self._known.values() if worker.url == url]
        return [self._known.get(address) or Worker(address, url) for address in addresses]

    async def _check(self, worker: Worker) -> None:
        if not await self._probe(worker):
            return
        # Who comes, or comes back, begins where the others are: with fewer it would draw every request for a while.
        worker.asked = max(worker.asked, min((other.asked for other in self.ready), default=0))
        worker.is_ready = True
        log.info("worker %s is ready", worker.address)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                await self.refresh()
            except Exception:  # whatever it was: the next look may succeed, and nobody else would look
                log.exception("the workers could not be looked for")


async def _addresses(url: SplitResult) -> list[str]:
    """`http://host:port` for each address of the host. Raises OSError where the name can't be resolved."""
    port = url.port or (443 if url.scheme == "https" else 80)
    found = await asyncio.get_running_loop().getaddrinfo(url.hostname, port, type=socket.SOCK_STREAM)
    hosts = sorted({str(entry[4][0]) for entry in found})
    return [f"{url.scheme}://{f'[{host}]' if ':' in host else host}:{port}" for host in hosts]
