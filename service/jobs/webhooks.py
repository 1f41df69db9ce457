"""Finds the events of webhooks and delivers them.

The events are the new entries of the audit trail and the jobs that have ended. A webhook remembers the last entry that
it has reported, so no operation of the service has to know of webhooks, and no event is lost while no runner works.
"""

import json
import logging
import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import aiohttp
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.access import audit_log
from service.gallery.jobs import jobs
from service.gallery.jobs.records import JobRef
from service.gallery.people import collections
from service.gallery.storage.database import BACKGROUND_S, Database
from service.gallery.webhooks import deliveries, webhooks
from service.gallery.webhooks.deliveries import Delivery, DeliveryState, NewDelivery
from service.gallery.webhooks.events import WebhookEvent, entry_body, event_of, job_body
from service.gallery.webhooks.signing import WebhookSigner
from service.gallery.webhooks.webhooks import Webhook
from service.jobs.queue import DELIVER, WEBHOOK_QUEUE, Queue, RetryLater
from service.recognition.allowed_hosts import is_allowed

ENTRIES = 500
"""Entries of the audit trail that one transaction turns into deliveries."""
FIRST_DELAY_S, FACTOR = 2, 4
"""The delay before the second attempt, and the factor by which each further delay grows."""
MAX_DELAY_S = 3600
RESUMED = 1000
JSON = {"content-type": "application/json", "user-agent": "identity-registry"}
log = logging.getLogger(__name__)


@dataclass(frozen=True)
class WebhookLimits:
    """Limits of webhooks.

    Attributes:
        allowed_hosts: hosts that may be contacted.
        timeout_s: time in which a receiver must respond.
        max_attempts: requests for one event, including the first one.
        keep_days: days for which finished deliveries are listed.
    """

    allowed_hosts: Sequence[str]
    timeout_s: float
    max_attempts: int
    keep_days: int


@dataclass(frozen=True)
class Webhooks:
    """Finds and delivers events.

    Attributes:
        signer: None: the service keeps no audit trail, and there are no webhooks.
    """

    database: Database
    queue: Queue
    signer: WebhookSigner | None
    limits: WebhookLimits

    async def dispatch(self) -> None:
        """Stores and enqueues a delivery for each new event. Several processes share the webhooks."""
        async with self.database.transaction(all_collections=True, timeout_s=BACKGROUND_S) as connection:
            due = await webhooks.due(connection)
        for hook in due:
            try:
                async with self.database.transaction(collection_id=hook.collection_id) as connection:
                    await self._dispatch(connection, hook)
            except Exception as error:  # the other webhooks must not wait for this one
                log.warning("webhook %s: its events cannot be read: %s", hook.id, str(error).partition("\n")[0])

    async def deliver(self, collection_id: str, delivery_id: str) -> None:
        """Sends one event. A task of the queue, which may execute it again after the process was killed.

        Raises:
            RetryLater: the receiver has not accepted the event.
        """
        collection = uuid.UUID(collection_id)
        async with self.database.transaction(collection_id=collection) as connection:
            delivery = await deliveries.find(connection, collection, uuid.UUID(delivery_id))
            if delivery is None or delivery.state != DeliveryState.WAITING:
                return
            hook = await webhooks.get(connection, collection, delivery.webhook_id)
        problem = await self._send(hook, delivery)
        attempts = delivery.attempts + 1
        is_last = attempts >= self.limits.max_attempts
        async with self.database.transaction(collection_id=collection) as connection:
            await deliveries.record(connection, delivery, problem, is_last)
        if problem is None:
            return
        if is_last:
            log.warning("webhook %s: an event could not be delivered in %d attempts: %s", hook.id, attempts, problem)
            return
        raise RetryLater(min(FIRST_DELAY_S * FACTOR ** (attempts - 1), MAX_DELAY_S))

    async def maintain(self) -> None:
        """Deletes old deliveries, and enqueues waiting ones that have no task: a backup contains no tasks."""
        deleted = 1
        while deleted:
            async with self.database.transaction(all_collections=True, timeout_s=BACKGROUND_S) as connection:
                deleted = await deliveries.purge(connection, self.limits.keep_days)
        async with self.database.transaction(all_collections=True, timeout_s=BACKGROUND_S) as connection:
            queued = await _queued(connection)
            waiting = await deliveries.waiting(connection, RESUMED)
            lost = [(owner, delivery_id) for owner, delivery_id in waiting if delivery_id not in queued]
            await self._enqueue(connection, lost)

    async def _dispatch(self, connection: AsyncConnection, due: Webhook) -> None:
        hook = await webhooks.lock(connection, due)
        if hook is None:
            return
        name = (await collections.get_by_id(connection, hook.collection_id)).name
        entries = await audit_log.page(connection, hook.collection_id, ENTRIES, hook.last_number)
        if entries:
            await webhooks.advance(connection, hook, entries[-1].number)
        new = [
            NewDelivery(event, entry_body(event, name, entry))
            for entry in entries
            if (event := event_of(entry)) is not None and event in hook.events
        ]
        if WebhookEvent.JOB_DONE in hook.events:
            for job_id in await webhooks.unreported_jobs(connection, hook):
                job = await jobs.get(connection, JobRef(hook.collection_id, job_id))
                new.append(NewDelivery(WebhookEvent.JOB_DONE, job_body(name, job), job.id))
        added = await deliveries.add(connection, hook, new)
        await self._enqueue(connection, [(hook.collection_id, delivery_id) for delivery_id in added])

    async def _enqueue(self, connection: AsyncConnection, items: Sequence[tuple[uuid.UUID, uuid.UUID]]) -> None:
        if items:
            arguments = [{"collection_id": str(owner), "delivery_id": str(item)} for owner, item in items]
            await self.queue.enqueue(connection, DELIVER, arguments, queue=WEBHOOK_QUEUE)

    async def _send(self, hook: Webhook, delivery: Delivery) -> str | None:
        """Sends an event. Returns the reason of a failure, or None. Follows no redirect, which could lead anywhere."""
        if self.signer is None or not is_allowed(hook.url, self.limits.allowed_hosts):
            return "the host is no longer in webhooks.allowed_hosts, or the service has no audit.key"
        body = json.dumps(delivery.body, separators=(",", ":")).encode()
        headers = self.signer.headers(hook.id, delivery.id, int(time.time()), body)
        timeout = aiohttp.ClientTimeout(total=self.limits.timeout_s)
        try:
            async with (
                aiohttp.ClientSession(timeout=timeout) as session,
                session.post(hook.url, data=body, headers=JSON | headers, allow_redirects=False) as response,
            ):
                return None if 200 <= response.status < 300 else f"HTTP status {response.status}"
        except TimeoutError:
            return f"no response within {self.limits.timeout_s:g} s"
        except (aiohttp.ClientError, OSError, ValueError) as error:
            return type(error).__name__


async def _queued(connection: AsyncConnection) -> set[uuid.UUID]:
    """Returns the ids of deliveries with a waiting or running task."""
    query = text(
        "SELECT args->>'delivery_id' FROM procrastinate.procrastinate_jobs "
        "WHERE queue_name = :queue AND status IN ('todo', 'doing')"
    )
    return {uuid.UUID(row[0]) for row in await connection.execute(query, {"queue": WEBHOOK_QUEUE})}
