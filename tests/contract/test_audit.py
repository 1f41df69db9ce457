"""Erasing a person, and what the audit trail says of it."""

import base64
import json
import os
import subprocess
import sys
import time
import uuid
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import psycopg
import pytest

from service.gallery.storage import tables
from service.runtime.settings import Settings
from tests.contract.test_jobs import ended, start
from tests.contract.test_operations import register
from tests.photos import COLLINS, HOPPER, b64
from tests.server import wait_for

FACE, OTHER = COLLINS.read_bytes(), HOPPER.read_bytes()


def trail(client: httpx.Client, collection: str, **query: Any) -> list[dict[str, Any]]:
    return client.get("/audit", params={"collection": collection, "limit": 1000, **query}).json()["entries"]


def environment(settings: Settings) -> dict[str, str]:
    assert settings.audit.key is not None
    return os.environ | {
        "REGISTRY_DATABASE__URL": str(settings.database_url),
        "REGISTRY_AUDIT__KEY": settings.audit.key.get_secret_value(),
    }


def service(settings: Settings, *command: str, **changes: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "service", *command], env=environment(settings) | changes, capture_output=True, text=True
    )


def test_every_operation_leaves_an_entry(client: httpx.Client, collection_name: str) -> None:
    query = {"collection": collection_name}
    made = register(client, collection_name, "Collins", FACE).json()["identity_id"]
    other = register(client, collection_name, "Hopper", OTHER).json()["identity_id"]
    client.post(
        "/search",
        params={"collection": collection_name},
        json={"image": b64(FACE)},
        headers={"x-request-id": "who-was-it"},
    )
    client.post("/verify", params=query, json={"image_a": b64(FACE), "identity_id": made})
    client.patch(f"/identities/{made}", params=query, json={"label": "E. Collins"})
    client.patch(f"/collections/{collection_name}", json={"quality": "off"})
    client.post(f"/identities/{made}/merge", params=query, json={"identities": [other]})
    client.get(f"/identities/{made}/export", params=query)
    client.delete(f"/identities/{made}", params=query)
    entries = trail(client, collection_name)
    actions = [entry["action"] for entry in entries]
    assert sorted(actions) == sorted(
        ["collection-create", "enrol", "enrol", "search", "verify", "change", "collection-change", "merge", "export",
         "erase"]
    )  # fmt: skip
    by_action = {entry["action"]: entry for entry in entries}
    assert by_action["search"]["request_id"] == "who-was-it"
    assert by_action["search"]["details"] == {"pictures": 1, "faces": 1, "matches": 1}
    assert by_action["verify"]["identity_id"] == made
    assert by_action["merge"]["details"] == {"identities": [other]}
    assert {entry["action"] for entry in trail(client, collection_name, identity_id=made)} == {
        "enrol", "verify", "change", "merge", "export", "erase"
    }  # fmt: skip
    assert [entry["number"] for entry in entries] == list(range(1, len(entries) + 1))


def test_what_was_refused_leaves_none(client: httpx.Client, collection_name: str) -> None:
    register(client, collection_name, "Nobody", b"not a picture")
    client.delete(f"/identities/{uuid.uuid4()}", params={"collection": collection_name})
    assert [entry["action"] for entry in trail(client, collection_name)] == ["collection-create"]


def test_nothing_of_the_person_is_left_but_the_trail(client: httpx.Client, settings: Settings) -> None:
    name = f"test-{uuid.uuid4().hex[:12]}"
    client.post("/collections", json={"name": name})
    words = f"person-{uuid.uuid4().hex}"
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    body = {"external_id": words, "label": words, "images": [b64(FACE)], "metadata": {"x": words}}
    made = client.post("/register", params={"collection": name}, json=body, headers=headers).json()["identity_id"]
    ended(client, start(client, name, {f"{words}/1.jpg": FACE, f"{words}/2.jpg": b"broken"}))
    answer = client.delete(f"/identities/{made}", params={"collection": name}).json()
    assert answer["deleted"] == {
        "templates": 1,
        "centroids": 1,
        "corrections": 0,
        "crops": 0,
        "responses": 1,
        "job_rows": 2,
    }
    with psycopg.connect(str(settings.database_url).replace("+psycopg", "")) as connection:
        for table in tables.metadata.tables:
            query = f"SELECT t::text FROM {table} t WHERE position(%s IN t::text) > 0 OR position(%s IN t::text) > 0"
            rows = connection.execute(query, [words, made]).fetchall()  # type: ignore[arg-type]
            assert (table == "audit") == bool(rows), (table, rows)
            assert not any(words in row[0] for row in rows)
        queue = "SELECT count(*) FROM procrastinate.procrastinate_jobs t WHERE position(%s IN t::text) > 0"
        assert connection.execute(queue, [words]).fetchone() == (0,)
    receipt = answer["receipt"]
    [entry] = trail(client, name, action="erase")
    assert (entry["number"], entry["mac"], entry["identity_id"]) == (receipt["number"], receipt["code"], made)


def test_the_command_line_checks_every_chain(
    client: httpx.Client, collection_name: str, settings: Settings, tmp_path: Path
) -> None:
    register(client, collection_name, "Collins", FACE)
    trail(client, collection_name)
    heads = tmp_path / "heads.json"
    assert service(settings, "audit", "heads", str(heads)).returncode == 0
    [shown] = client.get("/audit/heads", params={"collection": collection_name}).json()["heads"]
    assert shown in json.loads(heads.read_text())
    chain = shown["collection_id"]

    def verdict(*options: str) -> str:
        checked = service(settings, "audit", "verify", *options)  # other tests' broken chains are told as well
        return next((line for line in checked.stdout.splitlines() if line.startswith(chain)), checked.stderr)

    assert verdict("--heads", str(heads)) == f"{chain}  {collection_name}  intact, 2 entries"
    with psycopg.connect(str(settings.database_url).replace("+psycopg", "")) as connection:
        connection.execute("UPDATE audit SET key_name = 'x' WHERE collection_id = %s", [chain])
    assert "BROKEN: entry 1" in verdict()
    assert service(settings, "audit", "verify").returncode == 1
    with psycopg.connect(str(settings.database_url).replace("+psycopg", "")) as connection:
        connection.execute("DELETE FROM audit WHERE collection_id = %s", [chain])
        connection.execute("DELETE FROM audit_head WHERE collection_id = %s", [chain])
    assert verdict() == ""
    assert "BROKEN: the chain ends at entry 0 and had 2" in verdict("--heads", str(heads))


def test_everything_held_on_a_person_can_be_had(client: httpx.Client, collection_name: str) -> None:
    made = register(client, collection_name, "Collins", FACE, metadata={"team": "x"}).json()
    held = client.get(f"/identities/{made['identity_id']}/export", params={"collection": collection_name}).json()
    assert (held["identity"]["label"], held["identity"]["metadata"]) == ("Collins", {"team": "x"})
    [template], [centroid] = held["templates"], held["centroids"]
    vector = np.frombuffer(base64.b64decode(template["embedding"]), "<f4")
    assert abs(float(np.linalg.norm(vector)) - 1) < 1e-5
    assert np.allclose(vector, np.frombuffer(base64.b64decode(centroid["embedding"]), "<f4"), atol=1e-6)
    assert [entry["action"] for entry in held["audit"]] == ["enrol"]


def test_people_are_erased_when_their_time_has_come(settings: Settings) -> None:
    from service.runtime.api import create_app
    from tests.conftest import serving

    quick = settings.model_copy(
        update={"database": settings.database.model_copy(update={"maintenance_interval_s": 0.3})}
    )
    name = f"test-{uuid.uuid4().hex[:12]}"
    with serving(create_app(quick)) as client:
        client.post("/collections", json={"name": name})
        soon = (datetime.now(UTC) + timedelta(seconds=5)).isoformat()
        later = (datetime.now(UTC) + timedelta(days=1)).isoformat()
        body = {"images": [b64(FACE)]}
        first = client.post(
            "/register", params={"collection": name}, json=body | {"label": "soon", "retain_until": soon}
        ).json()["identity_id"]
        second = client.post(
            "/register", params={"collection": name}, json=body | {"label": "kept", "retain_until": soon}
        ).json()["identity_id"]
        client.post("/register", params={"collection": name}, json=body | {"label": "later", "retain_until": later})
        shown = client.patch(f"/identities/{second}", params={"collection": name}, json={"retain_until": None}).json()
        assert shown["retain_until"] is None
        wait_for(lambda: client.get(f"/identities/{first}", params={"collection": name}).status_code == 404, 30)
        left = client.get("/identities", params={"collection": name}).json()["identities"]
        assert {person["label"] for person in left} == {"kept", "later"}
        [entry] = [item for item in trail(client, name) if item["action"] == "expire"]
        assert (entry["identity_id"], entry["key_name"]) == (first, "service")
        refused = client.post(
            "/register", params={"collection": name}, json=body | {"label": "x", "retain_until": "2030-01-01T00:00:00"}
        )
        assert refused.json()["code"] == "invalid_request"
        past = (datetime.now(UTC) - timedelta(seconds=1)).isoformat()
        refused = client.post(
            "/register", params={"collection": name}, json=body | {"label": "x", "retain_until": past}
        )
        assert (refused.status_code, refused.json()["pointer"]) == (422, "/retain_until")


def test_reads_are_written_within_a_second(client: httpx.Client, collection_name: str, settings: Settings) -> None:
    register(client, collection_name, "Collins", FACE)
    for _ in range(3):
        client.post("/search", params={"collection": collection_name}, json={"image": b64(FACE)})
    time.sleep(1.5)
    with psycopg.connect(str(settings.database_url).replace("+psycopg", "")) as connection:
        query = "SELECT count(*) FROM audit JOIN collection c ON c.id = collection_id WHERE c.name = %s AND action = %s"
        assert connection.execute(query, [collection_name, "search"]).fetchone() == (3,)


@pytest.mark.parametrize("cursor", ["x", "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw", "LTE="])
def test_a_made_up_cursor_is_refused_or_empty(client: httpx.Client, collection_name: str, cursor: str) -> None:
    answer = client.get("/audit", params={"collection": collection_name, "cursor": cursor})
    assert answer.status_code in (200, 422), answer.text
