"""Many requests, one model: pictures that wait at the same moment are run together, and only so many may wait."""

import asyncio
import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Generic, TypeVar

from service.errors import EngineBusy
from service.telemetry.metrics import BATCHES, REFUSED, WAITING

PATIENCE = 4
Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(slots=True)
class _Waiting(Generic[Item, Result]):
    item: Item
    result: "asyncio.Future[Result]"


class Batcher(Generic[Item, Result]):
    """Runs items through a blocking function on one thread, up to `max_batch` at a time.

    The queue is bounded: past `max_queued` items a request is refused at once, which tells a load balancer more than
    an answer that comes too late. An item whose caller has gone is dropped before it is run.

    Args:
        is_background: whether an item may wait for those that are not. It is never in a batch with them, and where they
            always wait, it gets one batch of `PATIENCE`.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        max_batch: int,
        max_queued: int,
        is_background: Callable[[Item], bool] = lambda _: False,
    ) -> None:
        self._run, self._is_patient = run, is_background
        self._max_batch = max_batch
        self._max_waiting = max_queued
        self._waiting: list[_Waiting[Item, Result]] = []
        self._arrived = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._passed_over = 0

    async def start(self) -> None:
        self._task = asyncio.create_task(self._serve(), name="batcher")

    async def stop(self) -> None:
        """Tell everyone who still waits that the engine is busy, and end with the batch in hand."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        self._stopped = True
        _fail(self._waiting, EngineBusy("the service is shutting down"))
        self._waiting.clear()
        await asyncio.to_thread(self._thread.shutdown)

    async def submit(self, items: Sequence[Item]) -> list[Result]:
        """Wait for the results of all items, in their order.

        Raises:
            EngineBusy: there is no room for all of them; none was taken.
        """
        if self._stopped:
            raise EngineBusy("the service is shutting down")
        if self._is_full(items):
            # Those whose caller has gone take no room.
            self._waiting = [entry for entry in self._waiting if not entry.result.done()]
        if self._is_full(items):
            REFUSED.inc(len(items))
            raise EngineBusy(f"{len(self._waiting)} pictures are waiting; try again in a moment")
        loop = asyncio.get_running_loop()
        entries = [_Waiting[Item, Result](item, loop.create_future()) for item in items]
        self._waiting += entries
        WAITING.set(len(self._waiting))
        self._arrived.set()
        try:
            return list(await asyncio.gather(*(entry.result for entry in entries)))
        except BaseException:
            for entry in entries:
                entry.result.cancel()
            raise

    def _is_full(self, items: Sequence[Item]) -> bool:
        """Patient items have room of their own, so that nobody is refused because of them."""
        background = any(map(self._is_patient, items))
        ahead = sum(self._is_patient(entry.item) == background for entry in self._waiting)
        return ahead > 0 and ahead + len(items) > self._max_waiting

    async def _serve(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._arrived.wait()
            batch = self._take()
            if not batch:
                continue
            BATCHES.observe(len(batch))
            try:
                results = await loop.run_in_executor(self._thread, self._run, [entry.item for entry in batch])
                for entry, result in zip(batch, results, strict=True):
                    if not entry.result.done():
                        entry.result.set_result(result)
            except asyncio.CancelledError:
                _fail(batch, EngineBusy("the service is shutting down"))
                raise
            except Exception as error:
                # Whatever broke the batch: its callers must hear of it, and the next one must run.
                _fail(batch, error)

    def _take(self) -> list[_Waiting[Item, Result]]:
        waiting = [entry for entry in self._waiting if not entry.result.done()]
        background = [entry for entry in waiting if self._is_patient(entry.item)]
        urgent = [entry for entry in waiting if not self._is_patient(entry.item)]
        self._passed_over = self._passed_over + 1 if background and urgent else 0
        if self._passed_over == PATIENCE:
            urgent, self._passed_over = [], 0
        batch = (urgent or background)[: self._max_batch]
        taken = set(map(id, batch))
        self._waiting = [entry for entry in waiting if id(entry) not in taken]
        WAITING.set(len(self._waiting))
        if not self._waiting:
            self._arrived.clear()
        return batch


def _fail(entries: "Sequence[_Waiting[Item, Result]]", error: Exception) -> None:
    for entry in entries:
        if not entry.result.done():
            entry.result.set_exception(error)
