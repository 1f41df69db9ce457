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

from service.metrics import WORKERS

WATCH_S = 0.5
log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Worker:
    """One worker's address, and how busy we keep it."""

    address: str
    """`http://10.0.0.3:8001`"""
    host: str
    """The name that it was found by, for TLS and the Host header."""
    is_ready: bool = False
    in_flight: int = 0
    asked: int = 0
    """Pictures that were ever sent to it."""

    @property
    def is_encrypted(self) -> bool:
        return self.address.startswith("https:")


class Workers:
    """Knows who is there: resolves the names again and again, and asks those that failed whether they are back."""

    def __init__(self, urls: Sequence[str], probe: Callable[[Worker], Awaitable[bool]]) -> None:
        self._urls = [urlsplit(url) for url in urls]
        self._probe = probe
        self._known: dict[str, Worker] = {}
        self._refreshing = asyncio.Lock()
        self._watcher: asyncio.Task[None] | None = None
        self._looked = asyncio.Event()

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
        """Until it has been looked once more who is there."""
        await self._looked.wait()

    def lost(self, worker: Worker) -> None:
        """Leave a worker alone until it answers a probe."""
        if worker.is_ready:
            log.warning("worker %s is gone", worker.address)
        worker.is_ready = False

    async def refresh(self) -> None:
        """Resolve every name, forget workers that left, and probe those that are not ready."""
        async with self._refreshing:
            found: dict[str, Worker] = {}
            for url in self._urls:
                for address in await _addresses(url):
                    found[address] = self._known.get(address) or Worker(address, url.netloc)
            self._join(found)
            await asyncio.gather(*(self._check(worker) for worker in found.values() if not worker.is_ready))
            WORKERS.set(len(self.ready))
            self._looked.set()
            self._looked = asyncio.Event()

    def _join(self, found: dict[str, Worker]) -> None:
        """Newcomers begin where the others are: a count of zero would draw every request to them for a while."""
        level = min((worker.asked for worker in self._known.values()), default=0)
        for address, worker in found.items():
            if address not in self._known:
                worker.asked = level
        self._known = found

    async def _check(self, worker: Worker) -> None:
        worker.is_ready = await self._probe(worker)
        if worker.is_ready:
            log.info("worker %s is ready", worker.address)

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(WATCH_S)
            try:
                await self.refresh()
            except Exception:  # whatever it was: the next look may succeed, and nobody else would look
                log.exception("the workers could not be looked for")


async def _addresses(url: SplitResult) -> list[str]:
    """`http://host:port` for each address of the host; none where the name is unknown just now."""
    port = url.port or (443 if url.scheme == "https" else 80)
    try:
        found = await asyncio.get_running_loop().getaddrinfo(url.hostname, port, type=socket.SOCK_STREAM)
    except OSError:
        return []
    hosts = sorted({str(entry[4][0]) for entry in found})
    return [f"{url.scheme}://{f'[{host}]' if ':' in host else host}:{port}" for host in hosts]
