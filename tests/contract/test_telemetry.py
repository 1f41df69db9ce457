"""Tests of rate limits, logs, metrics and traces. None of them may contain personal data."""

import asyncio
import http.server
import json
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.gallery.access import api_keys
from service.gallery.access.scopes import Scope
from service.gallery.storage.database import Database
from service.runtime.api import create_app
from service.runtime.settings import Settings
from tests.conftest import serving
from tests.contract.enrolment import register
from tests.photos import COLLINS, b64
from tests.server import running_api, wait_for

FACE = COLLINS.read_bytes()


def test_rate_limit_of_a_key(settings: Settings, postgres_url: str) -> None:
    async def create_key(rate: int | None) -> str:
        database = Database(postgres_url)
        async with database.transaction() as connection:
            secret = await api_keys.create(connection, "rated", [Scope.MANAGE], requests_per_minute=rate)
        await database.close()
        return secret

    guarded = settings.model_copy(
        update={"server": settings.server.model_copy(update={"require_keys": True, "rate_limit": 5})}
    )
    own, default = asyncio.run(create_key(2)), asyncio.run(create_key(None))
    with serving(create_app(guarded)) as client:
        for key, allowed in ((own, 2), (default, 5)):
            statuses = [client.get("/models", headers={"x-api-key": key}).status_code for _ in range(allowed + 2)]
            assert statuses == [200] * allowed + [429] * 2
        refused = client.get("/models", headers={"x-api-key": own})
        assert refused.json()["code"] == "too_many_requests"
        assert 1 <= int(refused.headers["retry-after"]) <= 60
        assert client.get("/healthz").status_code == 200


def test_log_format_json(data_folder: Path) -> None:
    with running_api(data_folder, REGISTRY_SERVER__LOG_FORMAT="json") as api:
        body = {"label": "a-name-that-is-not-logged", "images": [b64(FACE)]}
        api.client.post("/register", json=body, headers={"x-request-id": "test-request-1"})
        api.client.get("/identities", params={"label": "a-name-that-is-not-logged"})
    lines = api.log.read_text().splitlines()
    assert all(line.startswith("{") for line in lines), api.log.read_text()
    documents = [json.loads(line) for line in lines]
    [line] = [item for item in documents if item.get("request_id") == "test-request-1"]
    assert (line["logger"], line["operation"], line["status"]) == ("registry.access", "POST /register", 201)
    assert line["ms"] > 0
    assert "a-name-that-is-not-logged" not in api.log.read_text()


def test_metrics_of_gallery_pool_scores_and_queue(client: httpx.Client, collection_name: str) -> None:
    register(client, collection_name, "Collins", FACE)
    client.post("/search", params={"collection": collection_name}, json={"image": b64(FACE)})
    metrics = client.get("/metrics").text
    for name in (
        'registry_gallery_rows{table="identity"}',
        'registry_pool_connections{state="used"}',
        'registry_job_tasks{state="waiting"}',
        'registry_scores_count{operation="search"}',
    ):
        assert name in metrics
    assert collection_name not in metrics
    assert "Collins" not in metrics


@pytest.fixture
def collector() -> Iterator[tuple[str, list[bytes]]]:
    """Runs an HTTP server in place of an OpenTelemetry collector. Returns its URL and the bodies that it receives."""
    received: list[bytes] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(self.rfile.read(int(self.headers["content-length"])))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}", received
    server.shutdown()
    thread.join()
    server.server_close()


def test_traces_are_sent_to_the_otlp_endpoint(data_folder: Path, collector: tuple[str, list[bytes]]) -> None:
    address, received = collector
    name = f"person-{uuid.uuid4().hex}"
    with running_api(data_folder, REGISTRY_SERVER__OTLP_ENDPOINT=address) as api:
        assert api.client.post("/register", json={"label": name, "images": [b64(FACE)]}).status_code == 201
        assert api.client.get("/identities", params={"label": name}).json()["identities"]
        assert api.stop() == 0
    wait_for(lambda: bool(received), 10)
    spans = b"".join(received)
    assert b"POST /register" in spans
    assert b"INSERT" in spans
    assert b"identity-registry" in spans
    assert name.encode() not in spans
