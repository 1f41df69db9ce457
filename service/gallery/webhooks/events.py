"""The events that webhooks report, as they follow from entries of the audit trail and from finished jobs."""

from enum import StrEnum
from typing import Any

from service.gallery.access.audit_entries import Action, Entry
from service.gallery.jobs.records import Job


class WebhookEvent(StrEnum):
    """What a webhook can report.

    Attributes:
        MATCH: a search has matched a face with an identity, or a verification has matched an enrolled identity.
        UNKNOWN: a search has found no matching identity for any face.
        ENROLLED: pictures of an identity were stored.
        ERASED: an identity was erased, by a request or because its time had passed.
        JOB_DONE: a background job has ended.
    """

    MATCH = "match"
    UNKNOWN = "unknown"
    ENROLLED = "enrolled"
    ERASED = "erased"
    JOB_DONE = "job_done"


ACTIONS = (Action.SEARCH, Action.VERIFY, Action.ENROL, Action.ERASE, Action.EXPIRE)
"""The entries of the audit trail that can be events."""


def event_of(entry: Entry) -> WebhookEvent | None:
    """Returns the event that an entry of the audit trail is; None: no webhook reports it."""
    details = entry.details
    if entry.action == Action.ENROL:
        return WebhookEvent.ENROLLED if details.get("accepted") else None
    if entry.action in {Action.ERASE, Action.EXPIRE}:
        return WebhookEvent.ERASED
    if "rejected" in details:
        return None
    if entry.action == Action.SEARCH:
        return WebhookEvent.MATCH if details.get("matches") else WebhookEvent.UNKNOWN
    is_match = entry.action == Action.VERIFY and entry.identity_id is not None and details.get("match")
    return WebhookEvent.MATCH if is_match else None


def entry_body(event: WebhookEvent, collection: str, entry: Entry) -> dict[str, Any]:
    """Returns the document of an event: ids and counts, and no data about a face."""
    identities = [] if entry.identity_id is None else [str(entry.identity_id)]
    data = {
        "collection": collection,
        "audit_number": entry.number,
        "operation": entry.action,
        "request_id": entry.request_id,
        "identity_ids": entry.details.get("identities", identities),
    }
    return {"type": event, "timestamp": entry.at.isoformat(), "data": data}


def job_body(collection: str, job: Job) -> dict[str, Any]:
    """Returns the document of the end of a job."""
    data = {"collection": collection, "job_id": str(job.id), "kind": job.kind, "state": job.state}
    at = job.finished_at or job.created_at
    return {"type": WebhookEvent.JOB_DONE, "timestamp": at.isoformat(), "data": data}
