"""Runs `docker compose up` and tests enrolment, crashes, scaling, backups and rotation of secrets.

Each test uses the state that the previous one leaves.
"""

import os
import re
import subprocess
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import pytest

from tests.compose.people import enrol, labels
from tests.compose.stack import Stack
from tests.photos import BUS, COLLINS, HOPPER, brighter, zipped
from tests.server import wait_for

LOAD_S = float(os.environ.get("LOAD_S", "15"))
CLIENTS = 4


def engine_answers() -> bool:
    try:
        return subprocess.run(["docker", "info"], capture_output=True).returncode == 0
    except FileNotFoundError:
        return False


pytestmark = [
    pytest.mark.skipif(not engine_answers(), reason="no Docker engine answers here"),
    pytest.mark.timeout(1200),
]


def both_workers_ready(registry: httpx.Client) -> bool:
    return re.search(r"^registry_workers_ready\{.*\} 2\.0$", registry.get("/metrics").text, re.MULTILINE) is not None


def test_requests_need_the_first_key_which_is_shown_once(stack: Stack, registry: httpx.Client) -> None:
    assert httpx.get(f"{stack.url}/models").status_code == 401
    assert registry.get("/models").status_code == 200
    again = stack.compose("run", "--rm", "--no-TTY", "first-key", check=False)
    assert "ir_" not in again


def test_real_people_are_enrolled_verified_and_identified(registry: httpx.Client) -> None:
    assert enrol(registry, "Eileen Collins", COLLINS.read_bytes()).status_code == 201
    assert enrol(registry, "Grace Hopper", HOPPER.read_bytes()).status_code == 201
    files = {"image_a": COLLINS.read_bytes(), "image_b": HOPPER.read_bytes()}
    assert registry.post("/verify", files=files, data={"fmr": "0.001"}).json()["match"] is False
    found = registry.post("/search", files={"image": HOPPER.read_bytes()}).json()["results"][0]["candidates"][0]
    assert (found["label"], found["match"]) == ("Grace Hopper", True)
    strangers = registry.post("/search", files={"image": BUS.read_bytes()}, data={"face": "all"}).json()["results"]
    assert strangers
    assert not any(candidate["match"] for result in strangers for candidate in result["candidates"])


def test_containers_have_minimal_rights(stack: Stack) -> None:
    for service in ("api", "worker"):
        assert "uid=10001" in stack.execute(service, "id")
        assert "Read-only file system" in stack.execute(service, "sh", "-c", "touch /app/x 2>&1 || true")
        capabilities = stack.execute(service, "sh", "-c", "grep CapEff /proc/self/status")
        assert int(capabilities.split()[1], 16) == 0
    reach = "import socket; socket.create_connection(('db', 5432), 2)"
    assert "gaierror" in stack.execute("worker", "sh", "-c", f'python -c "{reach}" 2>&1 || true')
    assert "0.0.0.0" not in stack.compose("ps", "--format", "{{.Ports}}", "db", "worker")
    packages = {service: stack.execute(service, "pip", "list").lower() for service in ("api", "worker")}
    assert not re.search(r"^(torch|onnxruntime|openvino|opencv)", packages["api"], re.MULTILINE)
    assert not re.search(
        r"^(torch|sqlalchemy|psycopg|alembic|procrastinate|pgvector)", packages["worker"], re.MULTILINE
    )
    environment = stack.execute("api", "env") + stack.execute("worker", "env")
    assert "ir_" not in environment
    password = stack.execute("db", "cat", "/secrets/db/password")
    assert password not in environment + stack.compose("logs")


def test_a_bulk_enrolment_survives_a_crash_of_its_container(stack: Stack, registry: httpx.Client) -> None:
    files = {f"bulk-{number:03}/1.jpg": brighter(HOPPER, 0.7 + number / 500) for number in range(150)}
    query = {"collection": "bulk", "force": True}
    assert registry.post("/collections", json={"name": "bulk"}).status_code == 201
    headers = {"content-type": "application/zip"}
    accepted = registry.post("/jobs/enrolments", params=query, content=zipped(files), headers=headers)
    url = accepted.headers["location"]
    wait_for(lambda: registry.get(url).json()["done"] > 10, 60)
    stack.kill("jobs")
    wait_for(lambda: registry.get(url).json()["state"] == "done", 240)
    assert registry.get(url).json()["counts"] == {"accepted": 150, "duplicate": 0, "rejected": 0, "failed": 0}


def test_two_workers_share_the_work(stack: Stack, registry: httpx.Client) -> None:
    stack.up("--scale", "worker=2")
    wait_for(lambda: both_workers_ready(registry), 30)
    before = [stack.pictures_of_worker(index) for index in (1, 2)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        for response in pool.map(lambda _: registry.post("/search", files={"image": COLLINS.read_bytes()}), range(60)):
            assert response.status_code == 200
    shares = [stack.pictures_of_worker(index) - count for index, count in zip((1, 2), before, strict=True)]
    print(f"pictures by worker: {shares}")
    assert sum(shares) == 60
    assert min(shares) >= 20


def test_a_worker_killed_under_load_causes_no_error(stack: Stack, registry: httpx.Client) -> None:
    outcomes, times, ended = Counter[int](), list[float](), threading.Event()
    deadline = time.monotonic() + LOAD_S

    def send_requests() -> None:
        while not ended.is_set() or time.monotonic() < deadline:
            started = time.monotonic()
            files = {"image_a": COLLINS.read_bytes(), "image_b": HOPPER.read_bytes()}
            outcomes[registry.post("/verify", files=files).status_code] += 1
            times.append(time.monotonic() - started)

    wait_for(lambda: both_workers_ready(registry), 30)
    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(send_requests) for _ in range(CLIENTS)]
        try:
            for index in (1, 2):
                time.sleep(LOAD_S / 3)
                stack.kill("worker", index)
                wait_for(lambda: not both_workers_ready(registry), 10)
                wait_for(lambda: both_workers_ready(registry), 60)
        finally:
            ended.set()
    for client in clients:
        client.result()
    times.sort()
    print(f"{len(times)} requests, {dict(outcomes)}, p50 {times[len(times) // 2]:.3f} s, longest {times[-1]:.2f} s")
    assert set(outcomes) == {200}


def test_without_workers_pictures_get_503_and_other_requests_work(stack: Stack, registry: httpx.Client) -> None:
    stack.compose("stop", "worker")
    response = registry.post("/search", files={"image": COLLINS.read_bytes()})
    assert (response.status_code, response.json()["code"]) == (503, "engine_unavailable")
    assert int(response.headers["retry-after"]) >= 1
    assert "no worker" in registry.get("/readyz").json()["inference"]
    assert "Grace Hopper" in labels(registry)
    stack.compose("start", "worker")
    wait_for(lambda: registry.post("/search", files={"image": COLLINS.read_bytes()}).status_code == 200, 60)


def test_a_database_killed_under_load_keeps_all_acknowledged_enrolments(stack: Stack, registry: httpx.Client) -> None:
    acknowledged, refused, ended = list[str](), Counter[str](), threading.Event()

    def enrol_people(client: int) -> None:
        number = 0
        while not ended.is_set():
            label = f"person {client}-{number}"
            response = enrol(registry, label, (COLLINS, HOPPER)[number % 2].read_bytes())
            if response.status_code in (200, 201):
                acknowledged.append(label)
                number += 1
            else:
                refused[response.json()["code"]] += 1
                time.sleep(0.2)

    with ThreadPoolExecutor(CLIENTS) as pool:
        clients = [pool.submit(enrol_people, client) for client in range(CLIENTS)]
        time.sleep(3)
        stack.kill_database()
        before = len(acknowledged)
        wait_for(lambda: len(acknowledged) > before + 10, 90)
        ended.set()
    for client in clients:
        client.result()
    print(f"{len(acknowledged)} acknowledged, refused meanwhile: {dict(refused)}")
    assert set(refused) <= {"database_unavailable"}
    assert set(acknowledged) <= labels(registry)


def test_data_survives_down_and_up(stack: Stack, registry: httpx.Client) -> None:
    before = labels(registry)
    stack.compose("down", "--timeout", "20")
    print(f"up again: {stack.up():.1f} s")
    stack.await_ready()
    assert labels(registry) == before
    found = registry.post("/search", files={"image": HOPPER.read_bytes()}).json()["results"][0]["candidates"][0]
    assert found["match"]
    assert "valid key" in stack.compose("logs", "migrate")


def test_the_api_restarts(stack: Stack) -> None:
    stack.compose("stop", "api")
    started = time.monotonic()
    stack.compose("start", "api")
    stack.await_ready()
    print(f"API container, start to ready: {time.monotonic() - started:.1f} s")


def test_a_backup_restores_a_deleted_identity(stack: Stack, registry: httpx.Client) -> None:
    """Runs the commands of docs/how-to/backup.md."""
    before = labels(registry)
    backup = stack.compose_bytes("exec", "-T", "db", "pg_dump", "-U", "registry", "-Fc", "registry")
    person = registry.post("/search", files={"image": HOPPER.read_bytes()}).json()["results"][0]["candidates"][0]
    assert registry.delete(f"/identities/{person['identity_id']}").status_code == 200
    stack.compose("stop", "api")
    restore = ("pg_restore", "-U", "registry", "-d", "registry", "--clean", "--if-exists", "--single-transaction")
    stack.compose("exec", "-T", "db", *restore, stdin=backup)
    stack.up("--scale", "worker=2")
    assert labels(registry) == before
    found = registry.post("/search", files={"image": HOPPER.read_bytes()}).json()["results"][0]["candidates"][0]
    assert found["identity_id"] == person["identity_id"]


def test_secrets_are_rotated(stack: Stack, registry: httpx.Client, supplied_secrets: Path) -> None:
    """Runs the commands of docs/how-to/upgrades.md."""
    password, token = "p@ss/w:rd 'new'", "a-supplied-token"
    (supplied_secrets / "database-password").write_text(password)
    (supplied_secrets / "worker-token").write_text(token)
    for file in supplied_secrets.iterdir():
        file.chmod(0o644)
    stack.compose("run", "--rm", "--no-TTY", "--no-deps", "secrets")
    psql = ("psql", "-q", "-U", "registry", "-v", f"password={password}", "registry")
    stack.compose("exec", "-T", "db", *psql, stdin=b"ALTER ROLE registry PASSWORD :'password'")
    services = stack.compose("ps", "--services").split()
    stack.compose("restart", *(service for service in services if service != "db"))
    stack.await_ready()
    assert stack.execute("worker", "cat", "/secrets/worker/registry_inference__worker_token") == token
    wait_for(lambda: registry.post("/search", files={"image": COLLINS.read_bytes()}).status_code == 200, 60)
    for file in supplied_secrets.iterdir():
        file.unlink()
    assert "Grace Hopper" in labels(registry)
    # Supplied secrets are kept after their files are gone.
    stack.compose("run", "--rm", "--no-TTY", "--no-deps", "secrets")
    assert stack.execute("worker", "cat", "/secrets/worker/registry_inference__worker_token") == token


def test_concurrent_migrations_succeed(stack: Stack) -> None:
    with ThreadPoolExecutor(3) as pool:
        runs = [pool.submit(stack.compose, "run", "--rm", "--no-TTY", "--no-deps", "migrate") for _ in range(3)]
    for run in runs:
        assert "valid key" in run.result()


def test_both_profiles_contain_all_services() -> None:
    for profile, worker in (("cpu", "worker"), ("gpu", "worker-gpu")):
        command = ["docker", "compose", "config", "--services"]
        result = subprocess.run(
            command, env=os.environ | {"COMPOSE_PROFILES": profile}, capture_output=True, text=True, check=True
        )
        assert set(result.stdout.split()) == {"secrets", "db", "migrate", "api", "jobs", "admin", worker}
