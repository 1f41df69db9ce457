"""Tests of the remote engine with workers that start, stop, crash or are incompatible."""

import asyncio
import re
import signal
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
from service.inference.engine import HostedEngine, Observation, Picture
from service.inference.remote import RemoteEngine
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
    """Returns a function that starts a worker. All workers stop at the end of the module."""
    workers: list[RunningWorker] = []

    def start(**environment: str) -> RunningWorker:
        worker = RunningWorker(tmp_path_factory.mktemp("worker") / "log", **environment)
        worker.start()
        workers.append(worker)
        return worker

    yield start
    for worker in workers:
        worker.kill()


@pytest.fixture(scope="module")
def pair(started: Callable[..., RunningWorker]) -> tuple[RunningWorker, RunningWorker]:
    """Two workers. Every test leaves them running."""
    return started(), started()


@asynccontextmanager
async def remote_engine(*urls: str, token: str = TOKEN):
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


async def test_requests_to_a_killed_worker_are_sent_to_another(pair: tuple[RunningWorker, RunningWorker]) -> None:
    one, other = pair
    async with remote_engine(one.url, other.url) as engine:
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


async def test_engine_without_workers_recovers_when_one_starts(pair: tuple[RunningWorker, RunningWorker]) -> None:
    worker, _ = pair
    async with remote_engine(worker.url) as engine:
        worker.kill()
        with pytest.raises(EngineUnavailable, match="no worker can be reached") as caught:
            await engine.observe([PHOTO])
        assert caught.value.retry_after_s > 0
        assert "no worker" in (engine.problem or "")
        await asyncio.to_thread(worker.start)
        await recovered(engine)
        assert isinstance((await engine.observe([PHOTO]))[0], Observation)


async def test_request_waits_for_a_worker_and_then_fails() -> None:
    port = free_port()
    async with remote_engine(f"http://127.0.0.1:{port}") as engine:
        request = asyncio.create_task(engine.observe([PHOTO]))
        await asyncio.sleep(0.1)
        assert not request.done()
        with pytest.raises(EngineUnavailable):
            await request


async def test_graceful_stop_of_a_worker_loses_no_request(pair: tuple[RunningWorker, RunningWorker]) -> None:
    one, other = pair
    async with remote_engine(one.url, other.url) as engine:
        requests = [asyncio.create_task(engine.observe([PHOTO])) for _ in range(24)]
        await asyncio.sleep(0.1)
        await asyncio.to_thread(one.stop)
        for request in requests:
            assert isinstance((await request)[0], Observation)
        assert one.process.returncode == -signal.SIGTERM  # uvicorn's exit status after a graceful shutdown.
    one.start()


async def test_wrong_token_is_refused(
    pair: tuple[RunningWorker, RunningWorker], caplog: pytest.LogCaptureFixture
) -> None:
    worker, _ = pair
    async with remote_engine(worker.url, token="another-secret-token") as engine:
        with pytest.raises(EngineUnavailable, match="another model, precision or token") as caught:
            await engine.observe([PHOTO])
        assert "127.0.0.1" not in caught.value.detail
    assert "worker_token" in caplog.text
    async with httpx.AsyncClient(base_url=worker.url) as http:
        for headers in ({}, {"authorization": "Bearer x"}, {"authorization": TOKEN}):
            response = await http.post("/v1/observe", content=b"x", headers=headers)
            assert (response.status_code, response.json()["code"]) == (401, "unauthorized")
        assert (await http.get("/readyz")).status_code == 401
        assert (await http.get("/healthz")).status_code == 200


async def test_worker_with_another_precision_is_incompatible(
    started: Callable[..., RunningWorker], caplog: pytest.LogCaptureFixture
) -> None:
    """Thresholds are valid for the precision with which they were measured only."""
    worker = started(REGISTRY_INFERENCE__PRECISION="bf16")
    async with remote_engine(worker.url) as engine:
        with pytest.raises(EngineUnavailable, match="another model, precision or token"):
            await engine.observe([PHOTO])
    assert re.search(r"runs .*/bf16/.* expects .*/f32/", caplog.text)


async def test_request_to_a_full_worker_is_sent_to_another(
    started: Callable[..., RunningWorker], pair: tuple[RunningWorker, RunningWorker]
) -> None:
    tiny = {"REGISTRY_INFERENCE__MAX_QUEUED": "1", "REGISTRY_INFERENCE__MAX_BATCH": "1"}
    full, other = started(**tiny), pair[0]
    async with remote_engine(full.url) as engine:
        results = await asyncio.gather(*(engine.observe([PHOTO]) for _ in range(12)), return_exceptions=True)
        assert any(isinstance(result, EngineBusy) for result in results)
    async with remote_engine(full.url, other.url) as engine:
        results = await asyncio.gather(*(engine.observe([PHOTO]) for _ in range(12)))
        assert all(isinstance(result[0], Observation) for result in results)


async def test_server_that_is_not_a_worker_is_not_used(client: httpx.Client) -> None:
    """The configured URL is that of an API."""
    async with remote_engine(str(client.base_url)) as engine:
        assert isinstance(engine, RemoteEngine)
        with pytest.raises(EngineUnavailable):
            await engine.observe([PHOTO])


async def test_request_fails_in_time_if_the_resolver_hangs(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hangs(*_: object, **__: object) -> None:
        await asyncio.sleep(60)

    async with remote_engine("http://localhost:1") as engine:
        monkeypatch.setattr(asyncio.get_running_loop(), "getaddrinfo", hangs)
        started = time.monotonic()
        with pytest.raises(EngineUnavailable):
            await engine.observe([PHOTO])
        assert time.monotonic() - started < 5


async def test_worker_that_always_fails_is_not_preferred(pair: tuple[RunningWorker, RunningWorker]) -> None:
    """Its responses are fast, so it always has the fewest pictures in flight."""
    failing = FastAPI()

    @failing.get("/readyz")
    async def readyz() -> dict[str, str]:
        return {}

    @failing.post("/v1/observe")
    async def observe(request: Request) -> Response:
        await request.body()
        return problem(InternalError("the graph failed"), request)

    with serving(failing) as broken:
        async with remote_engine(str(broken.base_url).rstrip("/"), pair[0].url) as engine:
            results = [(await engine.observe([PHOTO]))[0] for _ in range(6)]
            assert all(isinstance(result, Observation) for result in results)
        async with remote_engine(str(broken.base_url).rstrip("/")) as engine:
            with pytest.raises(InternalError, match="from a worker; its request id is"):
                await engine.observe([PHOTO])


async def test_large_picture_is_sent_to_a_worker(pair: tuple[RunningWorker, RunningWorker]) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1000, 1000, 3)).astype(np.uint8)
    photo = encoded(noise, "PNG")
    assert len(photo) > 2 * 1024**2
    async with remote_engine(pair[0].url) as engine:
        (result,) = await engine.observe([Picture(photo)])
        assert isinstance(result, Observation)
        assert (result.width, result.height) == (1000, 1000)


async def test_bytes_in_flight_are_limited(
    pair: tuple[RunningWorker, RunningWorker], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(remote, "MAX_BYTES_IN_FLIGHT", 3 * len(PHOTO.data))
    async with remote_engine(pair[0].url) as engine:
        results = await asyncio.gather(*(engine.observe([PHOTO]) for _ in range(6)), return_exceptions=True)
        assert sum(isinstance(result, EngineBusy) for result in results) == 3
        assert isinstance((await engine.observe([PHOTO] * 5))[4], Observation)


def test_worker_without_a_token_listens_on_loopback_only() -> None:
    with pytest.raises(StartupError, match="worker_token"):
        create_worker(load_settings(worker={"host": "0.0.0.0"}))
    create_worker(load_settings(worker={"host": "0.0.0.0"}, inference={"worker_token": TOKEN}))


async def test_pictures_of_disconnected_clients_are_dropped(pair: tuple[RunningWorker, RunningWorker]) -> None:
    worker, _ = pair
    before = await processed_pictures(worker)
    async with remote_engine(worker.url) as engine:
        cancelled = [asyncio.create_task(engine.observe([Picture(HOPPER.read_bytes())])) for _ in range(60)]
        await asyncio.sleep(0.1)
        for request in cancelled:
            request.cancel()
        await asyncio.gather(*cancelled, return_exceptions=True)
        await engine.observe([PHOTO])
    assert await processed_pictures(worker) - before < 50


async def processed_pictures(worker: RunningWorker) -> float:
    """Returns the number of pictures that a worker has processed."""
    async with httpx.AsyncClient(base_url=worker.url) as http:
        metrics = (await http.get("/metrics")).text.splitlines()
    return next(float(line.split()[1]) for line in metrics if line.startswith("registry_batch_pictures_sum"))
