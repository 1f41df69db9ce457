"""Starts, watches and ends background tasks."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any

log = logging.getLogger(__name__)


async def cancel(task: "asyncio.Task[Any]") -> None:
    """Cancels a task and waits for its end.

    If the caller itself is cancelled while it waits, its cancellation is raised: `await task` could not tell the two
    cancellations apart.

    Raises:
        Exception: the exception with which the task ended.
    """
    task.cancel()
    await asyncio.wait([task])
    if not task.cancelled() and (error := task.exception()) is not None:
        raise error


class BackgroundTasks:
    """The tasks of a process that must never end before the process does."""

    def __init__(self) -> None:
        self._tasks: list[asyncio.Task[Any]] = []

    def start(self, work: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(work, name=name)
        task.add_done_callback(_log_end)
        self._tasks.append(task)

    @property
    def problem(self) -> str | None:
        """The name of a task that has ended, or None."""
        ended = [task.get_name() for task in self._tasks if task.done()]
        return f"the background task {ended[0]!r} has ended; restart the process" if ended else None

    async def stop(self) -> None:
        """Ends all tasks, in the reverse order of their start. Their exceptions were logged when they occurred."""
        while self._tasks:
            task = self._tasks.pop()
            task.remove_done_callback(_log_end)
            task.cancel()
            await asyncio.wait([task])


def _log_end(task: "asyncio.Task[Any]") -> None:
    error = None if task.cancelled() else task.exception()
    log.critical("the background task %s has ended", task.get_name(), exc_info=error)
