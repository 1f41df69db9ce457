"""Executes the tasks of the queue and reconnects after outages of the database."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from service.background_tasks import cancel
from service.errors import Unavailable
from service.jobs.queue import OUTAGES, Queue

RECONNECT_DELAY_S = 2.0
DISPATCH_S = 1.0
"""Seconds between two searches for events of webhooks."""
log = logging.getLogger(__name__)


async def run(
    queue: Queue,
    interval_s: float,
    local_maintenance: Callable[[], Awaitable[None]],
    dispatch_webhooks: Callable[[], Awaitable[None]],
) -> None:
    """Executes tasks until cancelled.

    Args:
        interval_s: seconds between two rounds of maintenance.
        dispatch_webhooks: enqueues the new events of webhooks.
        local_maintenance: maintenance of this process alone, such as of its folder of uploads. The maintenance that
            one process performs for all is a task of the queue.
    """
    while True:
        try:
            async with queue.connected():
                await _work(queue, interval_s, local_maintenance, dispatch_webhooks)
        except (*OUTAGES, Unavailable) as error:
            log.warning("the job queue is unreachable: %s", str(error).partition("\n")[0])
        except Exception:
            log.exception("the job runner failed and restarts")
        await asyncio.sleep(RECONNECT_DELAY_S)


async def _work(
    queue: Queue,
    interval_s: float,
    local_maintenance: Callable[[], Awaitable[None]],
    dispatch_webhooks: Callable[[], Awaitable[None]],
) -> None:
    """Runs until a loop ends, for example because the database connection breaks, or until cancelled."""
    loops = (
        queue.run(),
        queue.run_maintenance(),
        queue.run_webhooks(),
        _maintain(queue, interval_s, local_maintenance),
        _repeat(DISPATCH_S, dispatch_webhooks, "search for events of webhooks"),
    )
    tasks = {asyncio.create_task(loop) for loop in loops}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            with contextlib.suppress(Exception):  # `_work` raises the error of the task that ended first
                await cancel(task)


async def _maintain(queue: Queue, interval_s: float, local_maintenance: Callable[[], Awaitable[None]]) -> None:
    while True:
        await local_maintenance()
        if stalled := await queue.retry_stalled():
            log.warning("%d tasks of dead workers are delivered again", stalled)
        await queue.enqueue_maintenance()
        await asyncio.sleep(interval_s)


async def _repeat(interval_s: float, work: Callable[[], Awaitable[None]], name: str) -> None:
    while True:
        try:
            await work()
        except Exception as error:
            log.warning("%s failed: %s", name, str(error).partition("\n")[0])
        await asyncio.sleep(interval_s)
