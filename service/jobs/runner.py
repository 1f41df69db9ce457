"""Keeps the queue being worked on, through outages of the database."""

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable

from service.errors import Unavailable
from service.jobs.queue import OUTAGES, Queue

PAUSE_S = 2.0
log = logging.getLogger(__name__)


async def run(queue: Queue, every_s: float, own_chores: Callable[[], Awaitable[None]]) -> None:
    """Work on what is handed over until cancelled; every so often do one's own chores and hand over those of all."""
    while True:
        try:
            async with queue.opened():
                await _work(queue, every_s, own_chores)
        except (*OUTAGES, Unavailable) as error:
            log.warning("the job queue can't be reached: %s", str(error).partition("\n")[0])
        except Exception:
            log.exception("working on jobs was interrupted")
        await asyncio.sleep(PAUSE_S)


async def _work(queue: Queue, every_s: float, own_chores: Callable[[], Awaitable[None]]) -> None:
    """Until one of them ends, as where the database has gone away, or the caller is cancelled."""
    work = (queue.run(), queue.run_house(), _keep_house(queue, every_s, own_chores))
    tasks = {asyncio.create_task(one) for one in work}
    try:
        done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
    finally:
        for task in tasks:
            task.cancel()
        for task in tasks:
            with contextlib.suppress(asyncio.CancelledError, Exception):
                await task


async def _keep_house(queue: Queue, every_s: float, own_chores: Callable[[], Awaitable[None]]) -> None:
    while True:
        if stalled := await queue.pick_up_stalled():
            log.warning("%d tasks of workers that died are worked on again", stalled)
        await queue.put_maintenance()
        await own_chores()
        await asyncio.sleep(every_s)
