"""Batches of inference requests, and background items."""

import asyncio
import gc
import threading
import weakref
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from service.errors import EngineBusy
from service.inference.batching import Batcher, BatchFailedError

pytestmark = pytest.mark.anyio


class Recorder:
    """Returns doubled numbers, records the batches, and blocks while `gate` is cleared."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, items: Sequence[int]) -> list[int]:
        self.gate.wait(5)
        self.batches.append(list(items))
        if 13 in items:
            raise RuntimeError("unlucky")
        return [2 * item for item in items]


@asynccontextmanager
async def running(run: Callable[[Sequence[int]], list[int]], max_batch: int = 4) -> AsyncIterator[Batcher[int, int]]:
    batcher: Batcher[int, int] = Batcher(run, max_batch)
    await batcher.start()
    try:
        yield batcher
    finally:
        await batcher.stop()


async def blocked(batcher: Batcher[int, int], recorder: Recorder) -> "asyncio.Task[list[int]]":
    """Submits a batch that occupies the thread until the recorder's gate is set."""
    recorder.gate.clear()
    task = asyncio.create_task(batcher.submit([0]))
    await asyncio.sleep(0.05)
    return task


async def test_results_have_the_order_of_the_items() -> None:
    async with running(Recorder()) as batcher:
        assert await batcher.submit([5, 3, 4, 1, 2, 9]) == [10, 6, 8, 2, 4, 18]


async def test_waiting_requests_share_a_batch() -> None:
    recorder = Recorder()
    async with running(recorder) as batcher:
        first = await blocked(batcher, recorder)
        others = [asyncio.create_task(batcher.submit([number])) for number in (1, 2, 3)]
        await asyncio.sleep(0.05)
        recorder.gate.set()
        assert await first == [0]
        assert [await other for other in others] == [[2], [4], [6]]
    assert recorder.batches == [[0], [1, 2, 3]]


async def test_items_of_cancelled_callers_are_dropped() -> None:
    recorder = Recorder()
    async with running(recorder) as batcher:
        first = await blocked(batcher, recorder)
        cancelled = asyncio.create_task(batcher.submit([1]))
        remaining = asyncio.create_task(batcher.submit([2]))
        await asyncio.sleep(0.05)
        cancelled.cancel()
        recorder.gate.set()
        assert await remaining == [4]
        await first
        with pytest.raises(asyncio.CancelledError):
            await cancelled
    assert recorder.batches == [[0], [2]]


async def test_failed_batch_does_not_affect_the_next() -> None:
    async with running(Recorder()) as batcher:
        with pytest.raises(BatchFailedError, match="unlucky"):
            await batcher.submit([13])
        assert await batcher.submit([1]) == [2]


async def test_every_caller_of_a_failed_batch_gets_its_own_exception() -> None:
    recorder = Recorder()
    async with running(recorder) as batcher:
        first = await blocked(batcher, recorder)
        waiting = [asyncio.create_task(batcher.submit([number])) for number in (13, 1)]
        await asyncio.sleep(0.05)
        recorder.gate.set()
        await first
        errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert all(isinstance(error, BatchFailedError) for error in errors)
    assert errors[0] is not errors[1]
    assert isinstance(errors[0].__cause__, RuntimeError)  # type: ignore[union-attr]


async def test_stop_raises_engine_busy_in_waiting_callers() -> None:
    recorder = Recorder()
    batcher: Batcher[int, int] = Batcher(recorder, 1)
    await batcher.start()
    first = await blocked(batcher, recorder)
    waiting = asyncio.create_task(batcher.submit([1]))
    await asyncio.sleep(0.05)
    first.cancel()
    stopping = asyncio.create_task(batcher.stop())
    await asyncio.sleep(0.05)
    recorder.gate.set()
    await stopping
    with pytest.raises(EngineBusy, match="shutting down"):
        await waiting


async def test_background_items_give_way_to_requests() -> None:
    """Background items run when no request waits, and never in one batch with items of requests."""
    run = Recorder()
    batcher: Batcher[int, int] = Batcher(run, 4, lambda item: item >= 100)
    await batcher.start()
    run.gate.clear()
    background = [asyncio.create_task(batcher.submit([100 + number])) for number in range(6)]
    await asyncio.sleep(0.05)  # The first batch is running.
    urgent = [asyncio.create_task(batcher.submit([number])) for number in range(3)]
    await asyncio.sleep(0.05)
    run.gate.set()
    assert await asyncio.gather(*urgent) == [[0], [2], [4]]
    assert [(await task)[0] for task in background] == [200, 202, 204, 206, 208, 210]
    await batcher.stop()
    assert run.batches[0] == [100, 101, 102, 103]
    assert run.batches[1] == [0, 1, 2]
    assert run.batches[2] == [104, 105]


async def test_background_items_progress_under_constant_load() -> None:
    """Every fourth batch consists of background items while requests wait."""
    run = Recorder()
    batcher: Batcher[int, int] = Batcher(run, 2, lambda item: item >= 100)
    await batcher.start()
    run.gate.clear()
    tasks = [asyncio.create_task(batcher.submit([number])) for number in [*range(40, 80), 100, 102, 104]]
    await asyncio.sleep(0.05)
    run.gate.set()
    await asyncio.gather(*tasks)
    await batcher.stop()
    kinds = "".join("b" if batch[0] >= 100 else "u" for batch in run.batches)
    assert kinds.startswith("uuubuuub")
    assert all(len({item >= 100 for item in batch}) == 1 for batch in run.batches)


async def test_no_item_of_a_finished_batch_is_kept() -> None:
    """A decoded picture occupies a buffer of its decoder until nothing refers to it."""

    class Item:
        pass

    batcher: Batcher[Item, None] = Batcher(lambda items: [None] * len(items), 4)
    await batcher.start()
    try:
        item = Item()
        reference = weakref.ref(item)
        await batcher.submit([item])
        del item
        await asyncio.sleep(0)
        gc.collect()
        assert reference() is None
    finally:
        await batcher.stop()
