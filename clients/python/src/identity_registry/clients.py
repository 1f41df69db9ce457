"""The two clients. Both have the same operations."""

import asyncio
import time
import uuid
from collections.abc import Callable

from identity_registry.async_transport import AsyncTransport
from identity_registry.inputs import DEFAULT_COLLECTION
from identity_registry.operations.administration import Audit, Health, Models
from identity_registry.operations.collections import Collections, ModelMigrations
from identity_registry.operations.groups import Groups
from identity_registry.operations.identities import Identities
from identity_registry.operations.jobs import Jobs
from identity_registry.operations.recognition import Recognition
from identity_registry.operations.webhooks import Webhooks
from identity_registry.responses.jobs import JobDetail
from identity_registry.sync_transport import SyncTransport

POLL_S = 0.5
Progress = Callable[[JobDetail], object]


class Operations(Recognition, Identities, Collections, ModelMigrations, Groups, Jobs, Webhooks, Audit, Models, Health):
    """Combines the operations of all resources of the API."""


class Registry(Operations, SyncTransport):
    """A client of a registry.

    Every operation raises `RegistryError`, of the class of the problem's code, and `Unreachable` without a response.
    Operations whose names start with `list_` return iterators.
    """

    def wait_for_job(
        self,
        job_id: uuid.UUID | str,
        *,
        collection: str = DEFAULT_COLLECTION,
        progress: Progress | None = None,
        timeout_s: float | None = None,
        poll_s: float = POLL_S,
    ) -> JobDetail:
        """Returns a job as soon as it is done, failed or cancelled.

        Args:
            progress: called with the job after every poll.
            timeout_s: longest wait; None waits without limit.
            poll_s: seconds between two polls.

        Raises:
            TimeoutError: the job has not ended in time; it continues on the service.
            RegistryError: as for `read_job`.
        """
        deadline = _deadline(timeout_s)
        while not (job := self.read_job(job_id, collection=collection)).finished:
            _report(job, progress, deadline)
            time.sleep(poll_s)
        _report(job, progress, None)
        return job


class AsyncRegistry(Operations, AsyncTransport):
    """A client of a registry for asyncio. Its operations are coroutine functions and asynchronous iterators."""

    async def wait_for_job(
        self,
        job_id: uuid.UUID | str,
        *,
        collection: str = DEFAULT_COLLECTION,
        progress: Progress | None = None,
        timeout_s: float | None = None,
        poll_s: float = POLL_S,
    ) -> JobDetail:
        """Returns a job as soon as it is done, failed or cancelled; as `Registry.wait_for_job`."""
        deadline = _deadline(timeout_s)
        while not (job := await self.read_job(job_id, collection=collection)).finished:
            _report(job, progress, deadline)
            await asyncio.sleep(poll_s)
        _report(job, progress, None)
        return job


def _deadline(timeout_s: float | None) -> float | None:
    return None if timeout_s is None else time.monotonic() + timeout_s


def _report(job: JobDetail, progress: Progress | None, deadline: float | None) -> None:
    if progress is not None:
        progress(job)
    if deadline is not None and time.monotonic() > deadline:
        raise TimeoutError(
            f"job {job.id} has not ended; {job.done} of {job.total or 'an unknown number of'} rows are done"
        )
