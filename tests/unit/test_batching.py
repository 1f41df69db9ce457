import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

import pytest

from service.errors import EngineBusy
from service.inference.batching import Batcher

pytestmark = pytest.mark.anyio


class Recorder:
    """Doubles numbers, remembers the batches, and can be held back."""

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
async def running(
    run: Callable[[Sequence[int]], list[int]], max_batch: int = 4, max_queued: int = 6
) -> AsyncIterator[Batcher[int, int]]:
    batcher: Batcher[int, int] = Batcher(run, max_batch, max_queued)
    await batcher.start()
    try:
        yield batcher
    finally:
        await batcher.stop()


async def held(batcher: Batcher[int, int], recorder: Recorder) -> "asyncio.Task[list[int]]":
    """A first batch that occupies the thread until the gate opens."""
    recorder.gate.clear()
    task = asyncio.create_task(batcher.submit([0]))
    await asyncio.sleep(0.05)
    return task


async def test_results_come_in_the_order_of_the_items() -> None:
    async with running(Recorder()) as batcher:
        assert await batcher.submit([5, 3, 4, 1, 2, 9]) == [10, 6, 8, 2, 4, 18]


async def test_requests_that_wait_together_run_together() -> None:
    recorder = Recorder()
    async with running(recorder) as batcher:
        first = await held(batcher, recorder)
        others = [asyncio.create_task(batcher.submit([number])) for number in (1, 2, 3)]
        await asyncio.sleep(0.05)
        recorder.gate.set()
        assert await first == [0]
        assert [await other for other in others] == [[2], [4], [6]]
    assert recorder.batches == [[0], [1, 2, 3]]


async def test_a_full_queue_refuses_at_once_and_takes_none_of_it() -> None:
    recorder = Recorder()
    async with running(recorder) as batcher:
        first = await held(batcher, recorder)
        waiting = asyncio.create_task(batcher.submit([1, 2, 3, 4]))
        await asyncio.sleep(0.05)
        with pytest.raises(EngineBusy):
            await batcher.submit([5, 6, 7])
        recorder.gate.set()
        await asyncio.gather(first, waiting)
        assert await batcher.submit([8]) == [16]
    assert all(5 not in batch for batch in recorder.batches)


async def test_one_large_request_may_exceed_an_empty_queue() -> None:
    async with running(Recorder()) as batcher:
        assert await batcher.submit(list(range(12))) == [2 * number for number in range(12)]


async def test_those_who_have_gone_are_not_served() -> None:
    recorder = Recorder()
    async with running(recorder) as batcher:
        first = await held(batcher, recorder)
        gone = asyncio.create_task(batcher.submit([1]))
        stays = asyncio.create_task(batcher.submit([2]))
        await asyncio.sleep(0.05)
        gone.cancel()
        recorder.gate.set()
        assert await stays == [4]
        await first
        with pytest.raises(asyncio.CancelledError):
            await gone
    assert recorder.batches == [[0], [2]]


async def test_a_batch_that_breaks_does_not_stop_the_next() -> None:
    async with running(Recorder()) as batcher:
        with pytest.raises(RuntimeError, match="unlucky"):
            await batcher.submit([13])
        assert await batcher.submit([1]) == [2]


async def test_stopping_tells_those_who_wait() -> None:
    recorder = Recorder()
    batcher: Batcher[int, int] = Batcher(recorder, 1, 6)
    await batcher.start()
    first = await held(batcher, recorder)
    waiting = asyncio.create_task(batcher.submit([1]))
    await asyncio.sleep(0.05)
    first.cancel()
    stopping = asyncio.create_task(batcher.stop())
    await asyncio.sleep(0.05)
    recorder.gate.set()
    await stopping
    with pytest.raises(EngineBusy, match="shutting down"):
        await waiting


async def test_what_nobody_waits_for_lets_the_others_pass() -> None:
    """Patient items are run when nothing else waits, and never in one batch with what does."""
    run = Recorder()
    batcher: Batcher[int, int] = Batcher(run, 4, 100, lambda item: item >= 100)
    await batcher.start()
    run.gate.clear()
    background = [asyncio.create_task(batcher.submit([100 + number])) for number in range(6)]
    await asyncio.sleep(0.05)  # the first of them is being run
    urgent = [asyncio.create_task(batcher.submit([number])) for number in range(3)]
    await asyncio.sleep(0.05)
    run.gate.set()
    assert await asyncio.gather(*urgent) == [[0], [2], [4]]
    assert [(await task)[0] for task in patient] == [200, 202, 204, 206, 208, 210]
    await batcher.stop()
    assert run.batches[0] == [100, 101, 102, 103]
    assert run.batches[1] == [0, 1, 2]
    assert run.batches[2] == [104, 105]


async def test_patience_has_an_end() -> None:
    """Where requests never stop, background work goes on slowly instead of not at all."""
    run = Recorder()
    batcher: Batcher[int, int] = Batcher(run, 2, 1000, lambda item: item >= 100)
    await batcher.start()
    run.gate.clear()
    tasks = [asyncio.create_task(batcher.submit([number])) for number in [*range(40, 80), 100, 102, 104]]
    await asyncio.sleep(0.05)
    run.gate.set()
    await asyncio.gather(*tasks)
    await batcher.stop()
    kinds = "".join("p" if batch[0] >= 100 else "u" for batch in run.batches)
    assert kinds.startswith("uuupuuup")
    assert all(len({item >= 100 for item in batch}) == 1 for batch in run.batches)


async def test_nobody_is_refused_because_of_patient_items() -> None:
    run = Recorder()
    batcher: Batcher[int, int] = Batcher(run, 2, 4, lambda item: item >= 100)
    await batcher.start()
    run.gate.clear()
    first = asyncio.create_task(batcher.submit([100, 101]))
    await asyncio.sleep(0.05)
    background = asyncio.create_task(batcher.submit([102, 103, 104, 105]))
    await asyncio.sleep(0.05)
    with pytest.raises(EngineBusy):
        await batcher.submit([106])
    urgent = asyncio.create_task(batcher.submit([1, 2, 3, 4]))
    await asyncio.sleep(0.05)
    with pytest.raises(EngineBusy):
        await batcher.submit([5])
    run.gate.set()
    assert await urgent == [2, 4, 6, 8]
    assert [await first, await patient] == [[200, 202], [204, 206, 208, 210]]
    await batcher.stop()
