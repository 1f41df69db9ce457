"""Workers that come, go, die in the middle, or are not the right ones."""

import asyncio
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import asynccontextmanager

import httpx
import numpy as np
import pytest
from fastapi import FastAPI, Request, Response

from service.api.http.problems import problem
from service.errors import EngineBusy, EngineUnavailable, InternalError, StartupError
from service.inference import remote
from service.inference.bundle import read_embedder
from service.inference.engine import HostedEngine, Picture, Observation
from service.inference.remote import RemoteEngine
from service.inference.workers import Worker, Workers
from service.runtime.engines import build_remote
from service.runtime.settings import BUNDLES, load_settings
from service.runtime.worker import create_worker
from tests.conftest import serving
from tests.photos import COLLINS, HOPPER, encoded
from tests.server import TOKEN, RunningWorker, free_port

pytestmark = pytest.mark.anyio
MANIFEST = read_embedder(BUNDLES / "embedder")
PHOTO = Picture(COLLINS.read_bytes())


@pytest.fixture(scope="module")
def started(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., RunningWorker]]:
    """Starts a worker, and ends it with the module."""
    all_of_them: list[RunningWorker] = []

    def start(**environment: str) -> RunningWorker:
        worker = RunningWorker(tmp_path_factory.mktemp("worker") / "log", **environment)
        worker.start()
        all_of_them.append(worker)
        return worker

    yield start
    for worker in all_of_them:
        worker.kill()


@pytest.fixture(scope="module")
def pair(started: Callable[..., RunningWorker]) -> tuple[RunningWorker, RunningWorker]:
    """Two workers, which a test leaves running."""
    return started(), started()


@asynccontextmanager
async def asking(*urls: str, token: str = TOKEN):
    settings = load_settings(inference={"worker_url": ", ".join(urls), "worker_token": token})
    engine = build_remote(settings, [MANIFEST])
    await engine.start()
    try:
        yield engine
    finally:
        await engine.stop()


async def recovered(engine: HostedEngine) -> None:
    async with asyncio.timeout(10):
        while engine.problem is not None:
            await asyncio.sleep(0.05)


async def test_one_of_two_killed_in_the_middle_costs_a_retry(pair: tuple[RunningWorker, RunningWorker]) -> None:
    one, other = pair
    async with asking(one.url, other.url) as engine:
        requests = [asyncio.create_task(engine.observe([PHOTO])) for _ in range(48)]
        await asyncio.sleep(0.05)
        assert not all(request.done() for request in requests)
        one.kill()
        for request in requests:
            assert isinstance((await request)[0], Observation)
        assert isinstance(engine, RemoteEngine)
        assert [worker.address for worker in engine._workers.ready] == [other.url]
        await asyncio.to_thread(one.start)
        async with asyncio.timeout(10):
            while len(engine._workers.ready) < 2:
                await asyncio.sleep(0.05)


async def test_all_gone_is_a_503_that_recovers_by_itself(pair: tuple[RunningWorker, RunningWorker]) -> None:
    worker, _ = pair
    async with asking(worker.url) as engine:
        worker.kill()
        with pytest.raises(EngineUnavailable, match="no worker can be reached") as caught:
            await engine.observe([PHOTO])
        assert caught.value.retry_after_s > 0
        assert "no worker" in (engine.problem or "")
        await asyncio.to_thread(worker.start)
        await recovered(engine)
        assert isinstance((await engine.observe([PHOTO]))[0], Observation)


async def test_a_start_before_the_workers_waits_a_moment() -> None:
    """And then says so."""
    port = free_port()
    async with asking(f"http://127.0.0.1:{port}") as engine:
        request = asyncio.create_task(engine.observe([PHOTO]))
        await asyncio.sleep(0.1)
        assert not request.done()
        with pytest.raises(EngineUnavailable):
            await request


async def test_a_worker_that_drains_loses_nothing(pair: tuple[RunningWorker, RunningWorker]) -> None:
    one, other = pair
    async with asking(one.url, other.url) as engine:
        requests = [asyncio.create_task(engine.observe([PHOTO])) for _ in range(24)]
        await asyncio.sleep(0.1)
        await asyncio.to_thread(one.stop)
        for request in requests:
            assert isinstance((await request)[0], Observation)
        assert one.process.returncode == -signal.SIGTERM  # as uvicorn ends after a graceful shutdown
    one.start()


async def test_another_token_is_refused(
    pair: tuple[RunningWorker, RunningWorker], caplog: pytest.LogCaptureFixture
) -> None:
    worker, _ = pair
    async with asking(worker.url, token="quite-another-token") as engine:
        with pytest.raises(EngineUnavailable, match="another model, precision or token") as caught:
            await engine.observe([PHOTO])
        assert "127.0.0.1" not in caught.value.detail
    assert "worker_token" in caplog.text
    async with httpx.AsyncClient(base_url=worker.url) as stranger:
        for headers in ({}, {"authorization": "Bearer x"}, {"authorization": TOKEN}):
            answer = await stranger.post("/v1/observe", content=b"x", headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")
        assert (await stranger.get("/readyz")).status_code == 401
        assert (await stranger.get("/healthz")).status_code == 200


async def test_a_worker_of_another_precision_is_not_asked(
    started: Callable[..., RunningWorker], caplog: pytest.LogCaptureFixture
) -> None:
    """Its scores would not be those that the thresholds were measured with."""
    worker = started(REGISTRY_INFERENCE__PRECISION="bf16")
    async with asking(worker.url) as engine:
        with pytest.raises(EngineUnavailable, match="another model, precision or token"):
            await engine.observe([PHOTO])
    assert re.search(r"runs .*/bf16/.* expects .*/f32/", caplog.text)


async def test_a_full_worker_passes_on_to_the_next(
    started: Callable[..., RunningWorker], pair: tuple[RunningWorker, RunningWorker]
) -> None:
    tiny = {"REGISTRY_INFERENCE__MAX_QUEUED": "1", "REGISTRY_INFERENCE__MAX_BATCH": "1"}
    full, free = started(**tiny), pair[0]
    async with asking(full.url) as engine:
        answers = await asyncio.gather(*(engine.observe([PHOTO]) for _ in range(12)), return_exceptions=True)
        assert any(isinstance(answer, EngineBusy) for answer in answers)
    async with asking(full.url, free.url) as engine:
        answers = await asyncio.gather(*(engine.observe([PHOTO]) for _ in range(12)))
        assert all(isinstance(answer[0], Observation) for answer in answers)


async def test_what_listens_there_may_be_no_worker(client: httpx.Client) -> None:
    """The API itself, for instance."""
    async with asking(str(client.base_url)) as engine:
        assert isinstance(engine, RemoteEngine)
        with pytest.raises(EngineUnavailable):
            await engine.observe([PHOTO])


async def always(_: Worker) -> bool:
    return True


async def test_workers_behind_names_are_used_evenly() -> None:
    """Each address behind a name is a worker; the idlest is next, and a newcomer is not flooded."""
    workers = Workers(["http://127.0.0.1:1", "http://127.0.0.1:2", "http://name.invalid:3"], always)
    await workers.refresh()
    assert {worker.address for worker in workers.ready} == {"http://127.0.0.1:1", "http://127.0.0.1:2"}
    for _ in range(100):
        worker = workers.choose()
        assert worker is not None
        worker.asked += 1
    assert [worker.asked for worker in workers.ready] == [50, 50]
    workers._urls.append(workers._urls[0]._replace(netloc="127.0.0.1:9"))
    await workers.refresh()
    assert [worker.asked for worker in workers.ready] == [50, 50, 50]
    newcomer = workers.ready[-1]
    newcomer.in_flight = 3
    assert workers.choose() is not newcomer
    workers._urls = workers._urls[:1]
    await workers.refresh()
    assert len(workers.ready) == 1
    workers.lost(workers.ready[0])
    assert workers.choose() is None


async def test_a_name_that_cannot_be_resolved_for_a_moment_stands_for_whom_it_stood(
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


async def test_patience_ends_whatever_the_resolver_does(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs(*_: object, **__: object) -> None:
        await asyncio.sleep(60)

    async with asking("http://localhost:1") as engine:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", hangs)
        started = time.monotonic()
        with pytest.raises(EngineUnavailable):
            await engine.observe([PHOTO])
        assert time.monotonic() - started < 5


async def test_a_worker_that_fails_on_everything_is_not_preferred(pair: tuple[RunningWorker, RunningWorker]) -> None:
    """It would answer in no time and so be the idlest of all."""
    failing = FastAPI()

    @failing.get("/readyz")
    async def readyz() -> dict[str, str]:
        return {}

    @failing.post("/v1/observe")
    async def observe(request: Request) -> Response:
        await request.body()
        return problem(InternalError("the graphics card has fallen off"), request)

    with serving(failing) as broken:
        async with asking(str(broken.base_url).rstrip("/"), pair[0].url) as engine:
            answers = [(await engine.observe([PHOTO]))[0] for _ in range(6)]
            assert all(isinstance(answer, Observation) for answer in answers)
        async with asking(str(broken.base_url).rstrip("/")) as engine:
            with pytest.raises(InternalError, match="a worker's, as request"):
                await engine.observe([PHOTO])


async def test_large_pictures_travel_too(pair: tuple[RunningWorker, RunningWorker]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3)).astype(np.uint8)
    photo = encoded(noise, "PNG")
    assert len(photo) > 2 * 1024**2
    async with asking(pair[0].url) as engine:
        (answer,) = await engine.observe([Picture(photo)])
        assert isinstance(answer, Observation)
        assert (answer.width, answer.height) == (1000, 1000)


async def test_pictures_on_their_way_are_bounded(
    pair: tuple[RunningWorker, RunningWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "MOST_BYTES", 3 * len(PHOTO.data))
    async with asking(pair[0].url) as engine:
        answers = await asyncio.gather(*(engine.observe([PHOTO]) for _ in range(6)), return_exceptions=True)
        assert sum(isinstance(answer, EngineBusy) for answer in answers) == 3
        assert isinstance((await engine.observe([PHOTO] * 5))[4], Observation)


def test_a_worker_without_a_token_stays_on_loopback() -> None:
    with pytest.raises(StartupError, match="worker_token"):
        create_worker(load_settings(worker={"host": "0.0.0.0"}))
    create_worker(load_settings(worker={"host": "0.0.0.0"}, inference={"worker_token": TOKEN}))


async def test_a_client_that_left_is_not_worked_for(pair: tuple[RunningWorker, RunningWorker]) -> None:
    worker, _ = pair
    before = await pictures_of(worker)
    async with asking(worker.url) as engine:
        gone = [asyncio.create_task(engine.observe([Picture(HOPPER.read_bytes())])) for _ in range(60)]
        await asyncio.sleep(0.1)
        for request in gone:
            request.cancel()
        await asyncio.gather(*gone, return_exceptions=True)
        await engine.observe([PHOTO])
    assert await pictures_of(worker) - before < 50


async def pictures_of(worker: RunningWorker) -> float:
    """How many it has looked at."""
    async with httpx.AsyncClient(base_url=worker.url) as stranger:
        figures = (await stranger.get("/metrics")).text
    line = next(line for line in figures.splitlines() if line.startswith("registry_batch_pictures_sum"))
    return float(line.split()[1])
