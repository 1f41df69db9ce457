"""The service in separate processes, with the shipped bundles and real photos."""

import os
import signal
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import psycopg
import pytest

from service.embedded_postgres.cluster import Cluster
from service.gallery.index.centroids import centroid_of
from tests.photos import COLLINS, HOPPER, b64, encoded, pixels
from tests.server import keeper_of, processes_of, running_api, server_of, wait_for, wait_until_gone

FACE = COLLINS.read_bytes()


def variant(number: int) -> bytes:
    """Returns a picture file with different bytes, but nearly the same pixels, for each number."""
    return encoded(pixels(COLLINS), quality=95, comment=f"variant {number}".encode())


def body(label: str, image: bytes) -> dict[str, object]:
    return {"label": label, "images": [b64(image)]}


def query(data: Path, statement: str) -> list[tuple[object, ...]]:
    url = Cluster(data / "postgres").url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(url) as connection:
        return connection.execute(statement).fetchall()


def assert_every_centroid_is_the_mean_of_its_templates(data: Path) -> None:
    rows = query(data, "SELECT c.identity_id, c.template_count, c.embedding::text FROM centroid c")
    for identity_id, count, centroid in rows:
        statement = f"SELECT embedding::text FROM template WHERE identity_id = '{identity_id}' ORDER BY created_at, id"
        templates = np.array([_vector(row[0]) for row in query(data, statement)], np.float32)
        assert len(templates) == count
        np.testing.assert_allclose(_vector(centroid), centroid_of(templates), atol=1e-5)


def _vector(text: object) -> np.ndarray:
    return np.array(str(text).strip("[]").split(","), dtype=np.float32)


def test_the_service_starts_in_time_stops_and_preserves_its_data(data_folder: Path) -> None:
    started = time.monotonic()
    with running_api(data_folder) as api:
        print(f"\nfrom process start to ready, new data folder: {time.monotonic() - started:.1f} s")
        assert api.client.post("/register", json=body("C", FACE)).status_code == 201
        assert api.stop() == 0
    wait_until_gone(data_folder / "postgres")
    started = time.monotonic()
    with running_api(data_folder) as api:
        print(f"from process start to ready, warm: {time.monotonic() - started:.1f} s")
        assert time.monotonic() - started < 30
        response = api.client.post("/search", json={"image": b64(FACE)}).json()
        assert response["results"][0]["candidates"][0]["label"] == "C"


def test_a_killed_api_leaves_no_process_behind(data_folder: Path) -> None:
    with running_api(data_folder) as api:
        assert processes_of(data_folder / "postgres")
        api.kill()
        wait_until_gone(data_folder / "postgres")


def test_twenty_clients_register_one_person_concurrently(data_folder: Path) -> None:
    with running_api(data_folder) as api:
        pictures = [variant(number) for number in range(20)]

        def register(picture: bytes) -> dict[str, object]:
            with httpx.Client(base_url=api.client.base_url, timeout=60) as client:
                return dict(client.post("/register", json=body("one", picture)).json())

        with ThreadPoolExecutor(20) as pool:
            responses = list(pool.map(register, pictures))
        assert len({response["identity_id"] for response in responses}) == 1
        assert sum(bool(response["created"]) for response in responses) == 1
        assert query(data_folder, "SELECT template_count FROM centroid") == [(20,)]
        assert_every_centroid_is_the_mean_of_its_templates(data_folder)


def test_a_kill_under_load_loses_no_acknowledged_registration(data_folder: Path) -> None:
    acknowledged: list[str] = []
    sent = 60
    with running_api(data_folder) as api:

        def register(number: int) -> None:
            try:
                with httpx.Client(base_url=api.client.base_url, timeout=30) as client:
                    response = client.post("/register", json=body(f"p{number}", variant(number)))
                if response.status_code == 201:
                    acknowledged.append(response.json()["identity_id"])
            except httpx.TransportError:
                pass

        with ThreadPoolExecutor(6) as pool:
            futures = [pool.submit(register, number) for number in range(sent)]
            wait_for(lambda: len(acknowledged) >= 15, 30)
            database = [keeper_of(data_folder / "postgres"), server_of(data_folder / "postgres")]
            api.kill()
            for process in database:
                process.kill()
            for future in futures:
                future.result()
    assert 15 <= len(acknowledged) < sent
    with running_api(data_folder) as api:
        for identity_id in acknowledged:
            assert api.client.get(f"/identities/{identity_id}").json()["template_count"] == 1
        stored = query(
            data_folder,
            "SELECT count(*), count(t.id), count(c.identity_id) FROM identity i "
            "LEFT JOIN template t ON t.identity_id = i.id LEFT JOIN centroid c ON c.identity_id = i.id",
        )
        assert len(set(stored[0])) == 1, "an identity was stored partially"
        assert_every_centroid_is_the_mean_of_its_templates(data_folder)


def test_a_database_outage_returns_503_and_the_service_recovers(data_folder: Path) -> None:
    with running_api(data_folder) as api:
        assert api.client.post("/register", json=body("before", FACE)).status_code == 201
        acknowledged: set[str] = set()
        refused: set[str] = set()
        stop = threading.Event()

        def keep_registering(writer: int) -> None:
            number = 0
            with httpx.Client(base_url=api.client.base_url, timeout=30) as client:
                while not stop.is_set():
                    number += 1
                    label = f"{writer}-{number}"
                    response = client.post("/register", json=body(label, variant(number)))
                    if response.status_code == 201:
                        acknowledged.add(label)
                        continue
                    assert response.status_code == 503, response.text
                    assert response.json()["code"] == "database_unavailable"
                    assert response.headers["retry-after"]
                    refused.add(label)

        with ThreadPoolExecutor(3) as pool:
            writers = [pool.submit(keep_registering, writer) for writer in range(3)]
            for _ in range(3):
                time.sleep(0.6)
                server_of(data_folder / "postgres").kill()
                wait_for(lambda: api.client.get("/readyz").status_code == 200, 30)
            stop.set()
            for writer in writers:
                writer.result()
        assert refused
        # A connection that broke less than a second ago may still be in the pool; the next request replaces it.
        wait_for(lambda: api.client.post("/register", json=body("after", variant(0))).status_code == 201, 10)
        stored = {row[0] for row in query(data_folder, "SELECT external_id FROM identity")}
        assert acknowledged | {"before", "after"} <= stored
        assert stored <= acknowledged | refused | {"before", "after"}
        assert_every_centroid_is_the_mean_of_its_templates(data_folder)


def test_several_worker_processes_share_the_database(data_folder: Path) -> None:
    with running_api(data_folder, "--workers", "2") as api:
        for number in range(12):
            with httpx.Client(base_url=api.client.base_url, timeout=30) as client:
                assert client.post("/register", json=body(f"p{number}", variant(number))).status_code == 201
        assert query(data_folder, "SELECT count(*) FROM identity") == [(12,)]
        api.process.send_signal(signal.SIGINT)
        api.process.wait(40)
        wait_until_gone(data_folder / "postgres")


def test_a_configured_database_is_used(data_folder: Path, postgres_url: str) -> None:
    with running_api(data_folder, REGISTRY_DATABASE__URL=postgres_url) as api:
        assert api.client.get("/readyz").json()["status"] == "ready"
        assert not (data_folder / "postgres").exists()


@pytest.mark.parametrize(
    ("environment", "options", "message"),
    [
        ({"REGISTRY_DATABSE__URL": "x"}, [], "REGISTRY_DATABSE__URL is not a setting"),
        ({"REGISTRY_DATABASE__URL": "postgresql+psycopg://u:secret@127.0.0.1:1/x"}, [], "The database is unreachable"),
        ({"REGISTRY_EMBEDDER__BUNDLE": "/nonexistent"}, [], "is not a model bundle"),
        (
            {"REGISTRY_SERVER__REQUIRE_KEYS": "false"},
            ["--host", "0.0.0.0"],
            "is reachable from other machines",
        ),
    ],
)
def test_a_failed_start_explains_the_reason(
    data_folder: Path, environment: dict[str, str], options: list[str], message: str
) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "service", "serve", "--port", "0", *options],
        env=os.environ | {"REGISTRY_DATA_DIR": str(data_folder)} | environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert result.returncode != 0
    assert message in result.stdout + result.stderr
    assert "Traceback" not in result.stdout + result.stderr
    assert "secret" not in result.stdout + result.stderr
    wait_until_gone(data_folder / "postgres")


def test_the_logs_contain_no_label_and_no_picture(data_folder: Path) -> None:
    with running_api(data_folder) as api:
        api.client.post("/register", json=body("Very Private Name", FACE))
        api.client.post("/register", json={"label": "Very Private Name", "images": ["%%%"]})
        api.client.post("/search", json={"image": b64(HOPPER.read_bytes())})
        api.stop()
        logs = [api.log, data_folder / "postgres" / "server.log", data_folder / "postgres" / "keeper.log"]
        text = "".join(path.read_text(errors="replace") for path in logs)
    assert "Very Private Name" not in text
    assert b64(FACE)[100:140] not in text


def test_metrics_of_two_processes_on_one_port_are_added(data_folder: Path) -> None:
    with running_api(data_folder, "--workers", "2") as api:
        for _ in range(12):  # A new connection each, so that both processes receive requests.
            assert httpx.get(f"{api.client.base_url}/healthz").status_code == 200
        metrics = [api.client.get("/metrics").text for _ in range(2)]
    for text in metrics:
        line = next(
            line for line in text.splitlines() if 'registry_request_seconds_count{operation="GET /healthz"' in line
        )
        assert float(line.split()[-1]) == 12
