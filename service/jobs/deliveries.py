"""Limits how often a task is delivered after its process died or it raised an unexpected error.

Procrastinate counts every attempt, and most attempts end without a fault: a worker or the database is unavailable, or
the process stops. The row of the job therefore records each delivery before the task is executed, and the record is
removed when the delivery ends in one of these ways. The remaining records are those of processes that died and of
unexpected errors.
"""

import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from service.errors import Unavailable
from service.gallery.jobs import deliveries
from service.gallery.jobs.records import JobRef
from service.gallery.storage.database import Database

MAX_DELIVERIES = 3
log = logging.getLogger(__name__)


class DeliveriesExhausted(Exception):
    """The last permitted delivery of a task has failed. The message is the problem of the job."""


@dataclass(frozen=True, slots=True)
class _Delivery:
    job_ref: JobRef
    task: str
    id: uuid.UUID


@dataclass(frozen=True)
class Deliveries:
    """Executes tasks and records their deliveries.

    Attributes:
        ended: deliveries whose records could not be removed, because the database was unavailable.
    """

    database: Database
    ended: list[_Delivery] = field(default_factory=list)

    async def run(self, job_ref: JobRef, task: str, work: Callable[[], Awaitable[None]]) -> None:
        """Executes a task.

        Args:
            task: name of the task, unique in the job and the same for all its deliveries.

        Raises:
            DeliveriesExhausted: the job must fail. The task was not executed, or raised an unexpected error again.
            Exception: the error of the task.
        """
        await self.remove_ended()
        delivery = _Delivery(job_ref, task, uuid.uuid4())
        async with self.database.transaction(collection_id=job_ref.collection_id) as connection:
            failed = await deliveries.begin(connection, job_ref, task, delivery.id, MAX_DELIVERIES)
        if failed >= MAX_DELIVERIES:
            raise DeliveriesExhausted(
                f"the processes that worked on the job ended unexpectedly {failed} times; see the log of the service, "
                "and send the pictures in smaller jobs to find the one that causes it"
            )
        try:
            await work()
        except Exception as error:
            if isinstance(error, Unavailable):
                await self._end(delivery)
                raise
            if failed + 1 < MAX_DELIVERIES:
                raise
            log.exception("task %r failed in its last delivery", task)
            raise DeliveriesExhausted("an internal error occurred repeatedly; see the log of the service") from error
        except BaseException:  # the process stops
            await self._end(delivery)
            raise
        await self._end(delivery)

    async def remove_ended(self) -> None:
        """Removes the records of deliveries that ended during an outage of the database. Raises Unavailable."""
        while self.ended:
            await self._remove(self.ended[-1])
            self.ended.pop()

    async def _end(self, delivery: _Delivery) -> None:
        try:
            await self._remove(delivery)
        except BaseException as error:
            self.ended.append(delivery)
            if not isinstance(error, Unavailable):
                raise

    async def _remove(self, delivery: _Delivery) -> None:
        async with self.database.transaction(collection_id=delivery.job_ref.collection_id) as connection:
            await deliveries.end(connection, delivery.job_ref, delivery.task, delivery.id)
