"""Cancellation and supervision of background tasks."""

import asyncio

import pytest

from service.background_tasks import BackgroundTasks, cancel

pytestmark = pytest.mark.anyio


async def test_cancel_waits_for_the_end_of_the_task() -> None:
    ended = []

    async def work() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            await asyncio.sleep(0.05)
            ended.append(True)

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    await cancel(task)
    assert ended == [True]


async def test_cancel_raises_the_exception_of_the_task() -> None:
    async def work() -> None:
        try:
            await asyncio.sleep(10)
        finally:
            raise ValueError("broken")

    task = asyncio.create_task(work())
    await asyncio.sleep(0)
    with pytest.raises(ValueError, match="broken"):
        await cancel(task)


async def test_cancellation_of_the_caller_is_not_swallowed() -> None:
    """`suppress(CancelledError)` around `await task` would let the caller go on as if nobody had cancelled it."""
    went_on = []

    async def stubborn() -> None:
        for _ in range(2):
            try:
                await asyncio.sleep(0.2)
            except asyncio.CancelledError:
                continue

    async def caller(task: "asyncio.Task[None]") -> None:
        await cancel(task)
        went_on.append(True)

    task = asyncio.create_task(stubborn())
    await asyncio.sleep(0)
    waiting = asyncio.create_task(caller(task))
    await asyncio.sleep(0.05)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert went_on == []
    await asyncio.wait([task])


async def test_a_task_that_ends_is_a_problem(caplog: pytest.LogCaptureFixture) -> None:
    tasks = BackgroundTasks()

    async def fails() -> None:
        raise ValueError("broken")

    tasks.start(asyncio.sleep(10), "goes on")
    assert tasks.problem is None
    tasks.start(fails(), "flusher")
    await asyncio.sleep(0.01)
    assert tasks.problem == "the background task 'flusher' has ended; restart the process"
    assert "the background task flusher has ended" in caplog.text
    await tasks.stop()
