"""Tests of re-embedding while workers are lost."""

import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from service.errors import EngineUnavailable
from service.gallery.jobs.records import JobRow
from service.jobs.reembedding import Reembedding, ReembeddingSession


@dataclass(frozen=True)
class SessionThatLosesWorkers(ReembeddingSession):
    """Loses a worker in each of the first `losses` requests. It needs no database: no row may be marked as failed."""

    losses: int = 1
    requests: list[int] = field(default_factory=list)

    async def _reembed(self, group: Sequence[JobRow]) -> None:
        self.requests.append(len(group))
        if len(self.requests) <= self.losses:
            error = EngineUnavailable("no worker can be reached")
            error.extensions["workers_lost"] = 1
            raise error


class NoDatabase:
    """A row that is marked as failed would need a transaction."""

    def transaction(self, **_: Any) -> Any:
        raise AssertionError("a row was marked as failed after one lost worker")


async def _finished() -> None: ...


def _session(losses: int) -> SessionThatLosesWorkers:
    class Job:
        id = collection_id = uuid.uuid4()

    kind = Reembedding(NoDatabase(), None, None, _finished)
    return SessionThatLosesWorkers(kind, Job(), losses)


def _rows(count: int) -> list[JobRow]:
    empty = (None,) * 7
    return [JobRow(number, str(uuid.uuid4()), f"p{number}", *empty[:3], *empty[:6]) for number in range(count)]


@pytest.mark.anyio
async def test_one_lost_worker_fails_no_row() -> None:
    session = _session(losses=1)
    assert await session.work(_rows(1)) is False  # the row stays waiting
    assert await session.work(_rows(1)) is True


@pytest.mark.anyio
async def test_rows_of_a_lost_worker_are_sent_alone() -> None:
    session = _session(losses=1)
    assert await session.work(_rows(3)) is True
    assert session.requests == [3, 1, 1, 1]


@pytest.mark.anyio
async def test_row_that_loses_workers_again_is_marked_as_failed() -> None:
    session = _session(losses=2)
    assert await session.work(_rows(1)) is False
    with pytest.raises(AssertionError, match="marked as failed"):
        await session.work(_rows(1))
