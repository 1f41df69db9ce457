"""Attacks on a real server: bodies that are too large, too slow or too many, and a database that does not respond."""

import contextlib
import os
import shutil
import signal
import socket
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import psutil
import pytest

from tests.conftest import open_folder
from tests.photos import COLLINS, HOPPER, b64, brighter
from tests.server import RunningApi, processes_of, running_api
from tests.unit.test_decoding import encoded, with_many_scans

MEMORY_LIMIT = 768 * 1024**2
LIMITS = {"HEADERS_TIMEOUT_S": "1", "BODY_TIMEOUT_S": "4", "IDLE_TIMEOUT_S": "3"}


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    folder = open_folder()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def api(folder: Path) -> Iterator[RunningApi]:
    with running_api(folder, **{f"REGISTRY_LIMITS__{name}": value for name, value in LIMITS.items()}) as api:
        assert register(api.client, "Eileen", COLLINS.read_bytes()).status_code == 201
        yield api


def register(client: httpx.Client, label: str, photo: bytes) -> httpx.Response:
    return client.post("/register", json={"label": label, "images": [b64(photo)]})


def verify_ms(api: RunningApi, count: int = 30) -> float:
    """Returns the 95th percentile of the time of a verification in milliseconds.

    The connection is a new one: the server closes an older one after `IDLE_TIMEOUT_S`, possibly during a request.
    """
    body, times = {"external_id": "Eileen", "image": b64(brighter(COLLINS, 0.9))}, []
    with httpx.Client(base_url=api.client.base_url, timeout=30) as client:
        for _ in range(count):
            started = time.perf_counter()
            assert client.post("/verify", json=body).json()["match"]
            times.append(1000 * (time.perf_counter() - started))
    return statistics.quantiles(times, n=20)[-1]


@contextlib.contextmanager
def repeated(attack: Callable[[], object], threads: int) -> Iterator[list[object]]:
    """Repeats an attack in several threads while the block runs. Yields the results."""
    stopped, results = threading.Event(), []

    def run() -> None:
        while not stopped.is_set():
            results.append(attack())

    with ThreadPoolExecutor(threads) as executor:
        for _ in range(threads):
            executor.submit(run)
        try:
            yield results
        finally:
            stopped.set()


def test_structured_json_is_rejected_before_it_is_parsed(api: RunningApi) -> None:
    """33 MB of `[],` took 1.1 GB and blocked the event loop for seven seconds."""
    body = b'{"images":[' + b"[]," * 11_000_000 + b"[]]}"
    before = psutil.Process(api.process.pid).memory_info().rss
    started = time.perf_counter()
    response = api.client.post("/register", content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["code"]) == (400, "malformed_body")
    assert time.perf_counter() - started < 1
    assert psutil.Process(api.process.pid).memory_info().rss - before < 100 * 1024**2


def test_json_without_pictures_is_limited_to_one_megabyte(api: RunningApi) -> None:
    response = api.client.post("/collections", json={"name": "x" * 1_100_000})
    assert (response.status_code, response.json()["code"]) == (413, "body_too_large")
    assert "max_json_bytes" in response.json()["detail"]


def test_twenty_large_requests_stay_within_the_memory_of_the_service(api: RunningApi) -> None:
    body = b'{"label":"x","images":["' + b"A" * 30_000_000 + b'"]}'
    process, peak, stopped = psutil.Process(api.process.pid), [0], threading.Event()

    def watch() -> None:
        while not stopped.is_set():
            peak[0] = max(peak[0], process.memory_info().rss)
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    with ThreadPoolExecutor(20) as executor:
        headers = {"content-type": "application/json"}
        responses = list(
            executor.map(lambda _: api.client.post("/register", content=body, headers=headers, timeout=60), range(20))
        )
    stopped.set()
    watcher.join()
    codes = {response.json()["code"] for response in responses}
    assert codes <= {"image_too_large", "server_busy"}
    assert {response.headers.get("retry-after") for response in responses if response.status_code == 503} == {"1"}
    assert peak[0] < MEMORY_LIMIT
    assert api.client.get("/readyz").status_code == 200


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /register HTTP/1.1\r\nHost: 127.0.0.1\r\nX-A: ",
        b"POST /register HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 1000\r\n\r\n{",
        b"POST /register HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n",
    ],
    ids=["nothing", "headers", "body", "chunk"],
)
def test_incomplete_requests_are_ended(sent: bytes, api: RunningApi) -> None:
    address = api.client.base_url.host, api.client.base_url.port or 80
    with socket.create_connection(address, timeout=10) as connection:
        started = time.perf_counter()
        connection.sendall(sent)
        received = b""
        with contextlib.suppress(ConnectionError):
            while part := connection.recv(4096):
                received += part
                if b"request_timeout" in received:
                    break
    assert time.perf_counter() - started < 5
    assert received == b"" or b" 408 " in received or b" 401 " in received


def test_endless_headers_are_refused(api: RunningApi) -> None:
    address = api.client.base_url.host, api.client.base_url.port or 80
    with socket.create_connection(address, timeout=10) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(b"GET /healthz HTTP/1.1\r\nHost: 127.0.0.1\r\n")
        for number in range(100_000):
            connection.sendall(b"X-%d: %s\r\n" % (number, b"x" * 1000))
        pytest.fail("the server accepted 100 MB of headers")


@pytest.mark.parametrize("kind", ["scans", "webp"])
def test_costly_pictures_do_not_delay_other_clients(kind: str, api: RunningApi) -> None:
    """A picture blocked all clients for 40 s. `python -m tools.attacks` compares the times with the normal ones."""
    photo = with_many_scans(1500) if kind == "scans" else encoded(7000, 7000, "WEBP", quality=80, method=0)
    attacker = httpx.Client(base_url=api.client.base_url, timeout=60)
    with attacker, repeated(lambda: register(attacker, "slow", photo).json().get("code"), 2) as codes:
        time.sleep(1)
        attacked = verify_ms(api)
    assert set(codes) <= {"image_too_costly", "no_face", "engine_busy"}, set(codes)
    assert attacked < 5000


def test_suspended_database_gives_503_in_time_and_recovers(api: RunningApi, folder: Path) -> None:
    assert api.client.get("/identities").status_code == 200
    with suspended(folder / "postgres"):
        started = time.perf_counter()
        with ThreadPoolExecutor(12) as executor:
            responses = list(executor.map(lambda _: api.client.get("/identities"), range(12)))
        assert {response.json()["code"] for response in responses} == {"database_unavailable"}
        assert time.perf_counter() - started < 10
        ready = api.client.get("/readyz")
        assert (ready.status_code, api.client.get("/healthz").status_code) == (503, 200)
    deadline = time.monotonic() + 10
    while api.client.get("/identities").status_code != 200:
        assert time.monotonic() < deadline
    assert register(api.client, "Grace", HOPPER.read_bytes()).status_code == 201


@contextlib.contextmanager
def suspended(root: Path) -> Iterator[None]:
    """Suspends every process of the database server, as a frozen machine would."""
    processes = [process for process in processes_of(root) if "keeper" not in " ".join(process.cmdline())]
    assert len(processes) >= 2
    for process in processes:
        os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid, signal.SIGCONT)


def test_invalid_bytes_after_a_request_cause_no_exception(api: RunningApi) -> None:
    address = api.client.base_url.host, api.client.base_url.port or 80
    logged = len(api.log.read_text())  # earlier tests have suspended the database
    for _ in range(20):
        with socket.create_connection(address, timeout=10) as connection, contextlib.suppress(ConnectionError):
            connection.sendall(b"GET /models HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n\x00\xff not HTTP\r\n\r\n")
            connection.recv(4096)
    assert api.client.get("/models").status_code == 200
    assert "Traceback" not in api.log.read_text()[logged:]
