"""Requests and results of an enrolment."""

import uuid
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import RegistryError
from service.gallery.access.audit_entries import SERVICE, Actor
from service.gallery.people.identities import Identity
from service.gallery.search.results import Candidate
from service.inference.engine import Face, Sample


@dataclass(frozen=True, slots=True)
class ImageOutcome:
    """The outcome for one picture: `accepted`, `duplicate` (the same face is stored already) or `rejected`.

    Attributes:
        secondary: the same face under the collection's secondary model.
        overridden: the reasons for which the quality limits would refuse the face without `force`.
        similarity: cosine, -1 to 1, to the nearest other template of the identity; None: there is no other.
        outlier: the similarity is so low that the picture may show somebody else.
    """

    status: str
    face: Face | None = None
    secondary: Face | None = None
    template_id: uuid.UUID | None = None
    error: RegistryError | None = None
    overridden: tuple[str, ...] = ()
    similarity: float | None = None
    outlier: bool = False


@dataclass(frozen=True, slots=True)
class Enrolment:
    """The result of an enrolment.

    Attributes:
        created: the identity is new.
        images: in the order of the request.
        duplicate_candidates: other identities that match, best first.
    """

    identity: Identity
    created: bool
    images: list[ImageOutcome]
    duplicate_candidates: list[Candidate]


@dataclass(frozen=True, slots=True)
class IdempotentReplay:
    """The response that was stored for the same request."""

    response: dict[str, Any]


@dataclass(frozen=True, slots=True)
class IdempotencyRequest:
    """The Idempotency-Key of a request, which takes effect once even if it arrives several times.

    Attributes:
        key: value of the header Idempotency-Key.
        request_sha256: SHA-256 of the whole request.
        render: returns the response to store, as JSON.
    """

    key: str
    request_sha256: bytes
    render: Callable[[Enrolment], dict[str, Any]]


@dataclass(frozen=True, slots=True)
class EnrolmentRequest:
    """A request to enrol one identity.

    Attributes:
        force: enrol faces that the quality limits refuse.
        may_identify: the caller may learn which identities look alike.
        may_manage: the caller may change existing identities, and add pictures that do not match them.
        named: False: the identity is that of an unknown person.
        record: writes additional rows in the transaction of the enrolment.
    """

    collection: str
    external_id: str
    label: str | None
    metadata: dict[str, Any] | None
    samples: Sequence[Sample]
    force: bool = False
    may_identify: bool = True
    may_manage: bool = True
    idempotency: IdempotencyRequest | None = None
    retain_until: datetime | None = None
    actor: Actor = SERVICE
    record: Callable[[AsyncConnection, Enrolment], Awaitable[None]] | None = None
    named: bool = True
