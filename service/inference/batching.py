"""Collects items of concurrent callers into batches."""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from typing import Generic, TypeVar

from service.background_tasks import cancel
from service.errors import EngineBusy
from service.telemetry.metrics import BATCHES

BACKGROUND_INTERVAL = 4
"""While items of requests are waiting, every fourth batch consists of background items."""
Item = TypeVar("Item")
Result = TypeVar("Result")


class BatchFailedError(Exception):
    """The function that processes batches raised an exception, which is the cause."""


@dataclass(slots=True)
class _Entry(Generic[Item, Result]):
    item: Item
    result: "asyncio.Future[Result]"


class Batcher(Generic[Item, Result]):
    """Passes items to a blocking function, in batches, on one thread.

    Items whose caller was cancelled are dropped before they are processed.

    Args:
        run: function that maps a batch to its results, in the same order.
        max_batch: maximum number of items in a batch.
        is_background: returns True for items that give way to the others. A batch never contains both kinds.
    """

    def __init__(
        self,
        run: Callable[[Sequence[Item]], Sequence[Result]],
        max_batch: int,
        is_background: Callable[[Item], bool] = lambda _: False,
    ) -> None:
        self._run, self._is_background = run, is_background
        self._max_batch = max_batch
        self._queue: list[_Entry[Item, Result]] = []
        self._has_items = asyncio.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="inference")
        self._task: asyncio.Task[None] | None = None
        self._stopped = False
        self._background_skipped = 0

    async def start(self) -> None:
        self._task = asyncio.create_task(self._serve(), name="batcher")

    @property
    def failure(self) -> str | None:
        """The reason why no batch will be processed any more, or None."""
        return "the batch task has ended; restart the process" if self._task is not None and self._task.done() else None

    async def stop(self) -> None:
        """Raises EngineBusy in all waiting callers, and returns when the current batch is complete."""
        if self._task is not None:
            await cancel(self._task)
        self._stopped = True
        _fail(self._queue, _stopped)
        self._queue.clear()
        await asyncio.to_thread(self._thread.shutdown)

    async def submit(self, items: Sequence[Item]) -> list[Result]:
        """Returns the results of all items, in their order.

        Raises:
            EngineBusy: the batcher was stopped.
            BatchFailedError: the function raised an exception, which is the cause.
        """
        if self._stopped:
            raise _stopped()
        loop = asyncio.get_running_loop()
        entries = [_Entry[Item, Result](item, loop.create_future()) for item in items]
        self._queue += entries
        self._has_items.set()
        try:
            return list(await asyncio.gather(*(entry.result for entry in entries)))
        except BaseException:
            for entry in entries:
                entry.result.cancel()
            raise

    async def _serve(self) -> None:
        while True:
            await self._has_items.wait()
            await self._process_next()

    async def _process_next(self) -> None:
        """Processes a batch, and refers to none of its items afterwards: a decoded picture occupies a buffer."""
        batch = self._next_batch()
        if not batch:
            return
        BATCHES.observe(len(batch))
        loop = asyncio.get_running_loop()
        try:
            results = await loop.run_in_executor(self._thread, self._run, [entry.item for entry in batch])
            for entry, result in zip(batch, results, strict=True):
                if not entry.result.done():
                    entry.result.set_result(result)
        except asyncio.CancelledError:
            _fail(batch, _stopped)
            raise
        except Exception as error:
            # The callers of this batch get the error; the loop continues with the next batch.
            _fail(batch, partial(_batch_failed, error))

    def _next_batch(self) -> list[_Entry[Item, Result]]:
        """Removes the next batch from the queue and returns it."""
        waiting = [entry for entry in self._queue if not entry.result.done()]
        background = [entry for entry in waiting if self._is_background(entry.item)]
        urgent = [entry for entry in waiting if not self._is_background(entry.item)]
        self._background_skipped = self._background_skipped + 1 if background and urgent else 0
        if self._background_skipped == BACKGROUND_INTERVAL:
            urgent, self._background_skipped = [], 0
        batch = (urgent or background)[: self._max_batch]
        removed = set(map(id, batch))
        self._queue = [entry for entry in waiting if id(entry) not in removed]
        if not self._queue:
            self._has_items.clear()
        return batch


def _fail(entries: "Sequence[_Entry[Item, Result]]", error: Callable[[], Exception]) -> None:
    """Raises an exception of its own in each caller: a shared one would collect the tracebacks of all of them."""
    for entry in entries:
        if not entry.result.done():
            entry.result.set_exception(error())


def _stopped() -> EngineBusy:
    return EngineBusy("the service is shutting down; try again later")


def _batch_failed(cause: Exception) -> BatchFailedError:
    failure = BatchFailedError(f"{type(cause).__name__}: {cause}")
    failure.__cause__ = cause
    return failure
