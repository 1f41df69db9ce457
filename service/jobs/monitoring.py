"""Updates the metrics that are read from the database when Prometheus scrapes the service."""

import asyncio
import contextlib
from dataclasses import dataclass

from service.errors import DatabaseUnavailable
from service.gallery.search.planning import estimated_rows
from service.gallery.storage.database import Database
from service.jobs.queue import queued_tasks
from service.telemetry import metrics

TIMEOUT_S = 5


@dataclass(frozen=True)
class Monitoring:
    """The use case of the metrics endpoint."""

    database: Database

    async def update(self, with_gallery: bool) -> None:
        """Updates the gauges of pool, gallery and queue. While the database does not respond, the last values remain.

        Args:
            with_gallery: include the sizes of the whole database's tables.
        """
        for state, connections in self.database.pool.items():
            metrics.POOL.labels(state).set(connections)
        with contextlib.suppress(DatabaseUnavailable, TimeoutError):
            async with asyncio.timeout(TIMEOUT_S), self.database.transaction() as connection:
                sizes = await estimated_rows(connection) if with_gallery else {}
                for table, rows in sizes.items():
                    metrics.GALLERY.labels(table).set(rows)
                for status, tasks in (await queued_tasks(connection)).items():
                    metrics.TASKS.labels(status).set(tasks)
