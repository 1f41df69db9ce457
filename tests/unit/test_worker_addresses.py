"""Tests of the list of inference workers: name resolution and load balancing."""

import asyncio
import socket

import pytest

from service.inference.workers import Worker, Workers

pytestmark = pytest.mark.anyio


async def always(_: Worker) -> bool:
    return True


async def test_load_is_balanced_between_all_addresses() -> None:
    """Every address of a name is a worker. A new worker gets its share of the pictures and not all of them."""
    workers = Workers(["http://127.0.0.1:1", "http://127.0.0.1:2", "http://name.invalid:3"], always)
    await workers.refresh()
    assert {worker.address for worker in workers.ready} == {"http://127.0.0.1:1", "http://127.0.0.1:2"}
    for _ in range(100):
        worker = workers.choose()
        assert worker is not None
        worker.pictures_sent += 1
    assert [worker.pictures_sent for worker in workers.ready] == [50, 50]
    workers._urls.append(workers._urls[0]._replace(netloc="127.0.0.1:9"))
    await workers.refresh()
    assert [worker.pictures_sent for worker in workers.ready] == [50, 50, 50]
    new_worker = workers.ready[-1]
    new_worker.in_flight = 3
    assert workers.choose() is not new_worker
    workers._urls = workers._urls[:1]
    await workers.refresh()
    assert len(workers.ready) == 1
    workers.mark_failed(workers.ready[0])
    assert workers.choose() is None


async def test_addresses_are_kept_while_the_name_cannot_be_resolved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    workers = Workers(["http://localhost:1"], always)
    await workers.refresh()
    known = workers.ready
    assert known

    async def fails(*_: object, **__: object) -> None:
        raise socket.gaierror(socket.EAI_AGAIN, "try again")

    monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", fails)
    await workers.refresh()
    assert workers.ready == known
