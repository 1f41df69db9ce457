"""Resolves the addresses of inference workers, watches whether they are ready, and balances the load.

The module resolves names itself. A connection pool resolves a name once per connection, so a kept-alive connection
would always use the same worker, and workers that are added later would get no requests.
"""

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from urllib.parse import SplitResult, urlsplit

from service.background_tasks import cancel
from service.telemetry.metrics import WORKERS

REFRESH_INTERVAL_S = 0.5
RESOLVE_TIMEOUT_S = 2.0
log = logging.getLogger(__name__)


@dataclass(eq=False, slots=True)
class Worker:
    """A worker and its load from this process.

    Attributes:
        address: URL with an IP address, such as `http://10.0.0.3:8001`.
        url: configured URL of which `address` is one address; its host name goes into the Host header and is compared
            with the certificate.
        in_flight: pictures that this process has sent and the worker has not yet answered.
        pictures_sent: total number of pictures sent to the worker, for balancing.
    """

    address: str
    url: SplitResult
    is_ready: bool = False
    in_flight: int = 0
    pictures_sent: int = 0


class Workers:
    """All workers behind a list of URLs.

    A background task resolves the names and probes the workers that are not ready, every `REFRESH_INTERVAL_S` seconds.

    Args:
        probe: returns True if the worker is ready.
    """

    def __init__(self, urls: Sequence[str], probe: Callable[[Worker], Awaitable[bool]]) -> None:
        self._urls = [urlsplit(url) for url in urls]
        self._gauge = WORKERS.labels(", ".join(urls))
        self._probe = probe
        self._known: dict[str, Worker] = {}
        self._watcher: asyncio.Task[None] | None = None
        self._changed = asyncio.Event()

    async def start(self) -> None:
        await self.refresh()
        self._watcher = asyncio.create_task(self._watch(), name="workers")

    async def stop(self) -> None:
        if self._watcher is not None:
            await cancel(self._watcher)

    @property
    def failure(self) -> str | None:
        """The reason why workers are not watched any more, or None."""
        ended = self._watcher is not None and self._watcher.done()
        return "the task that watches the workers has ended; restart the process" if ended else None

    @property
    def ready(self) -> list[Worker]:
        return [worker for worker in self._known.values() if worker.is_ready]

    def choose(self, excluded: Collection[Worker] = ()) -> Worker | None:
        """Returns the ready worker with the fewest pictures in flight, and of several the one with the fewest sent.

        Returns None if no worker is ready.
        """
        candidates = [worker for worker in self.ready if worker not in excluded]
        return min(candidates, key=lambda worker: (worker.in_flight, worker.pictures_sent), default=None)

    async def wait(self) -> None:
        """Waits until a worker has become ready or the next refresh is complete."""
        await self._changed.wait()

    def mark_failed(self, worker: Worker) -> None:
        """Sends no more pictures to a worker until a probe succeeds."""
        if worker.is_ready:
            log.warning("worker %s is no longer ready", worker.address)
        worker.is_ready = False
        self._gauge.set(len(self.ready))

    async def refresh(self) -> None:
        """Resolves all names, removes workers without a resolved address, and probes those that are not ready."""
        try:
            resolved: dict[str, Worker] = {}
            for workers in await asyncio.gather(*(self._resolve(url) for url in self._urls)):
                resolved |= {worker.address: worker for worker in workers}
            self._known = resolved
            await asyncio.gather(*(self._check(worker) for worker in resolved.values() if not worker.is_ready))
        finally:
            self._gauge.set(len(self.ready))
            self._notify()

    async def _resolve(self, url: SplitResult) -> list[Worker]:
        """Returns one worker per address of a name; if the name cannot be resolved, those of the last resolution."""
        try:
            async with asyncio.timeout(RESOLVE_TIMEOUT_S):
                addresses = await _addresses(url)
        except (OSError, UnicodeError):  # TimeoutError is a subclass of OSError.
            return [worker for worker in self._known.values() if worker.url == url]
        return [self._known.get(address) or Worker(address, url) for address in addresses]

    async def _check(self, worker: Worker) -> None:
        if not await self._probe(worker):
            return
        # A new worker starts with the count of the others; with a count of 0 it would get every request for a while.
        minimum = min((other.pictures_sent for other in self.ready), default=0)
        worker.pictures_sent = max(worker.pictures_sent, minimum)
        worker.is_ready = True
        log.info("worker %s is ready", worker.address)
        self._notify()

    def _notify(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(REFRESH_INTERVAL_S)
            try:
                await self.refresh()
            except Exception:  # The task must go on: nothing else would notice new workers.
                log.exception("refreshing the list of workers failed")


async def _addresses(url: SplitResult) -> list[str]:
    """Returns `http://host:port` for each IP address of the host. Raises OSError if the name cannot be resolved."""
    port = url.port or (443 if url.scheme == "https" else 80)
    entries = await asyncio.get_running_loop().getaddrinfo(url.hostname, port, type=socket.SOCK_STREAM)
    hosts = sorted({str(entry[4][0]) for entry in entries})
    return [f"{url.scheme}://{f'[{host}]' if ':' in host else host}:{port}" for host in hosts]
