"""SQL of the deliveries of a job's tasks that have not ended in an orderly way."""

import uuid

from sqlalchemy import select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.jobs.records import UNFINISHED, JobRef
from service.gallery.storage.tables import job


async def begin(connection: AsyncConnection, job_ref: JobRef, task: str, delivery: uuid.UUID, maximum: int) -> int:
    """Records a delivery of a task of a locked job unless `maximum` deliveries of the task are recorded.

    Returns:
        The number of deliveries that were recorded before; 0 as well if the job has ended or does not exist.
    """
    statement = select(job.c.deliveries).where(job_ref.of_job, job.c.state.in_(UNFINISHED)).with_for_update()
    if (row := (await connection.execute(statement)).one_or_none()) is None:
        return 0
    recorded: dict[str, list[str]] = row[0] or {}
    before = recorded.get(task, [])
    if len(before) < maximum:
        await _store(connection, job_ref, recorded | {task: [*before, str(delivery)]})
    return len(before)


async def end(connection: AsyncConnection, job_ref: JobRef, task: str, delivery: uuid.UUID) -> None:
    """Removes the record of a delivery."""
    statement = select(job.c.deliveries).where(job_ref.of_job).with_for_update()
    recorded: dict[str, list[str]] = (await connection.execute(statement)).scalar_one_or_none() or {}
    rest = [other for other in recorded.get(task, []) if other != str(delivery)]
    others = {name: deliveries for name, deliveries in recorded.items() if name != task}
    await _store(connection, job_ref, others | ({task: rest} if rest else {}))


async def _store(connection: AsyncConnection, job_ref: JobRef, recorded: dict[str, list[str]]) -> None:
    await connection.execute(update(job).where(job_ref.of_job).values(deliveries=recorded))
