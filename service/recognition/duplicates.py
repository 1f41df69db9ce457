"""Is a person who is being enrolled here already, under another name?"""

import asyncio
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from enum import StrEnum
from weakref import WeakValueDictionary

import numpy as np
import numpy.typing as npt
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.people.collections import Collection
from service.gallery.search.search import Candidate, nearest
from service.recognition.decision_resolver import DecisionResolver

Floats = npt.NDArray[np.float32]
LOOKED_AT = 10
"""Nearest people for each picture."""


class DuplicatePolicy(StrEnum):
    """What happens when a new person looks like one who is enrolled under another id."""

    ALLOW = "allow"
    """Nobody looks."""
    WARN = "warn"
    """The person is enrolled, and the answer names those who look alike."""
    REJECT = "reject"
    """The person is not enrolled, and the problem names those who look alike."""


class EnrolmentLocks:
    """Lets those of this process who enrol where duplicates matter wait in line before they take a connection.

    In the database they line up as well, with those of other processes; there each who waits holds a connection.
    """

    def __init__(self) -> None:
        self._locks: WeakValueDictionary[uuid.UUID, asyncio.Lock] = WeakValueDictionary()

    @asynccontextmanager
    async def of(self, collection: Collection) -> AsyncIterator[None]:
        if collection.duplicates == DuplicatePolicy.ALLOW:
            yield
            return
        lock = self._locks.setdefault(collection.id, asyncio.Lock())
        async with lock:
            yield


async def duplicate_candidates(
    connection: AsyncConnection,
    resolver: DecisionResolver,
    collection: Collection,
    identity_id: uuid.UUID,
    embeddings: Sequence[Floats],
) -> list[Candidate]:
    """Other people of the collection who match one of the embeddings, best first.

    They are decided by the false positive rate of a whole search (`recognition.duplicate_fpir`), since everybody is
    compared: a rate for one comparison would call every newcomer to a large collection a duplicate.

    Raises:
        FmrNotCalibrated: the model has no calibration.
    """
    decision = await resolver.for_duplicates(connection, collection, len(embeddings))
    found: dict[uuid.UUID, Candidate] = {}
    for embedding in embeddings:
        near = await nearest(connection, collection.id, collection.model_id, embedding, LOOKED_AT)
        for candidate in near.candidates:
            if (
                candidate.id == identity_id
                or candidate.overruled
                or not decision.accepts(candidate.score, candidate.template_count)
            ):
                continue
            known = found.get(candidate.id)
            if known is None or candidate.score > known.score:
                found[candidate.id] = candidate
    return sorted(found.values(), key=lambda candidate: -candidate.score)
