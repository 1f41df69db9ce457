"""Tests of the audit trail, the erasure and the export of an identity, and retention."""

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
from tests.contract.enrolment import register
from tests.contract.test_jobs import finished_job, submit
from tests.photos import COLLINS, HOPPER, b64
from tests.server import wait_for

FACE, OTHER = COLLINS.read_bytes(), HOPPER.read_bytes()


def audit_entries(client: httpx.Client, collection: str, **query: Any) -> list[dict[str, Any]]:
    return client.get("/audit", params={"collection": collection, "limit": 1000, **query}).json()["entries"]


def environment(settings: Settings) -> dict[str, str]:
    """Returns the environment of a command that runs on the database of the tests."""
    assert settings.audit.key is not None
    return os.environ | {
        "REGISTRY_DATABASE__URL": str(settings.database_url),
        "REGISTRY_AUDIT__KEY": settings.audit.key.get_secret_value(),
    }


def run_service(settings: Settings, *command: str, **changes: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "service", *command], env=environment(settings) | changes, capture_output=True, text=True
    )


def test_every_operation_is_audited(client: httpx.Client, collection_name: str) -> None:
    query = {"collection": collection_name}
    identity_id = register(client, collection_name, "Collins", FACE).json()["identity_id"]
    other = register(client, collection_name, "Hopper", OTHER).json()["identity_id"]
    client.post(
        "/search",
        params={"collection": collection_name},
        json={"image": b64(FACE)},
        headers={"x-request-id": "test-request-1"},
    )
    client.post("/verify", params=query, json={"image_a": b64(FACE), "identity_id": identity_id})
    client.patch(f"/identities/{identity_id}", params=query, json={"label": "E. Collins"})
    client.patch(f"/collections/{collection_name}", json={"quality": "off"})
    client.post(f"/identities/{identity_id}/merge", params=query, json={"identities": [other]})
    client.get(f"/identities/{identity_id}/export", params=query)
    client.delete(f"/identities/{identity_id}", params=query)
    entries = audit_entries(client, collection_name)
    actions = [entry["action"] for entry in entries]
    assert sorted(actions) == sorted(
        ["collection-create", "enrol", "enrol", "search", "verify", "change", "collection-change", "merge", "export",
         "erase"]
    )  # fmt: skip
    by_action = {entry["action"]: entry for entry in entries}
    assert by_action["search"]["request_id"] == "test-request-1"
    found = {"pictures": 1, "faces": 1, "matches": 1, "identities": [identity_id]}
    assert by_action["search"]["details"] == found
    assert by_action["verify"]["identity_id"] == identity_id
    assert by_action["merge"]["details"] == {"identities": [other]}
    assert {entry["action"] for entry in audit_entries(client, collection_name, identity_id=identity_id)} == {
        "enrol", "verify", "change", "merge", "export", "erase"
    }  # fmt: skip
    assert [entry["number"] for entry in entries] == list(range(1, len(entries) + 1))


def test_rejected_pictures_are_audited(client: httpx.Client, collection_name: str) -> None:
    register(client, collection_name, "Nobody", b"not a picture")
    client.post("/search", params={"collection": collection_name}, json={"image": b64(b"not a picture")})
    client.delete(f"/identities/{uuid.uuid4()}", params={"collection": collection_name})
    entries = audit_entries(client, collection_name)
    assert [entry["action"] for entry in entries] == ["collection-create", "enrol", "search"]
    assert [entry["details"] for entry in entries[1:]] == [{"rejected": "image_unreadable"}] * 2
    assert all(entry["identity_id"] is None for entry in entries)


def test_erasure_leaves_audit_entries_only(client: httpx.Client, settings: Settings) -> None:
    name = f"test-{uuid.uuid4().hex[:12]}"
    client.post("/collections", json={"name": name})
    personal_text = f"person-{uuid.uuid4().hex}"
    headers = {"Idempotency-Key": str(uuid.uuid4())}
    body = {
        "external_id": personal_text,
        "label": personal_text,
        "images": [b64(FACE)],
        "metadata": {"x": personal_text},
    }
    registered = client.post("/register", params={"collection": name}, json=body, headers=headers).json()
    identity_id = registered["identity_id"]
    finished_job(client, submit(client, name, {f"{personal_text}/1.jpg": FACE, f"{personal_text}/2.jpg": b"broken"}))
    deletion = client.delete(f"/identities/{identity_id}", params={"collection": name}).json()
    assert deletion["deleted"] == {
        "templates": 1,
        "centroids": 1,
        "corrections": 0,
        "crops": 0,
        "responses": 1,
        "group_memberships": 0,
        "job_rows": 2,
    }
    with psycopg.connect(str(settings.database_url).replace("+psycopg", "")) as connection:
        for table in tables.metadata.tables:
            query = f"SELECT t::text FROM {table} t WHERE position(%s IN t::text) > 0 OR position(%s IN t::text) > 0"
            rows = connection.execute(query, [personal_text, identity_id]).fetchall()  # type: ignore[arg-type]
            # An entry of `centroid_change` is deleted after 15 minutes; it contains ids only.
            assert (table in {"audit", "centroid_change"}) == bool(rows), (table, rows)
            assert not any(personal_text in row[0] for row in rows)
        queue = "SELECT count(*) FROM procrastinate.procrastinate_jobs t WHERE position(%s IN t::text) > 0"
        assert connection.execute(queue, [personal_text]).fetchone() == (0,)
    receipt = deletion["receipt"]
    [entry] = audit_entries(client, name, action="erase")
    assert (entry["number"], entry["mac"], entry["identity_id"]) == (receipt["number"], receipt["mac"], identity_id)


def test_command_line_verifies_every_chain(
    client: httpx.Client, collection_name: str, settings: Settings, tmp_path: Path
) -> None:
    register(client, collection_name, "Collins", FACE)
    audit_entries(client, collection_name)
    heads_file = tmp_path / "heads.json"
    assert run_service(settings, "audit", "heads", str(heads_file)).returncode == 0
    [head] = client.get("/audit/heads", params={"collection": collection_name}).json()["heads"]
    assert head in json.loads(heads_file.read_text())
    chain = head["collection_id"]

    def verification(*options: str) -> str:
        """Returns the line about the chain, or the error output. The output also has the chains of other tests."""
        result = run_service(settings, "audit", "verify", *options)
        return next((line for line in result.stdout.splitlines() if line.startswith(chain)), result.stderr)

    assert verification("--heads", str(heads_file)) == f"{chain}  {collection_name}  intact, 2 entries"
    with psycopg.connect(str(settings.database_url).replace("+psycopg", "")) as connection:
        connection.execute("UPDATE audit SET key_name = 'x' WHERE collection_id = %s", [chain])
    assert "ALTERED: entry 1" in verification()
    assert run_service(settings, "audit", "verify").returncode == 1
    with psycopg.connect(str(settings.database_url).replace("+psycopg", "")) as connection:
        connection.execute("DELETE FROM audit WHERE collection_id = %s", [chain])
        connection.execute("DELETE FROM audit_head WHERE collection_id = %s", [chain])
    assert chain not in verification()
    assert "ALTERED: the chain ends at entry 0 and had 2" in verification("--heads", str(heads_file))


def test_export_has_all_data_of_the_identity(client: httpx.Client, collection_name: str) -> None:
    registered = register(client, collection_name, "Collins", FACE, metadata={"team": "x"}).json()
    path = f"/identities/{registered['identity_id']}/export"
    subject_data = client.get(path, params={"collection": collection_name}).json()
    assert (subject_data["identity"]["label"], subject_data["identity"]["metadata"]) == ("Collins", {"team": "x"})
    [template], [centroid] = subject_data["templates"], subject_data["centroids"]
    vector = np.frombuffer(base64.b64decode(template["embedding"]), "<f4")
    assert abs(float(np.linalg.norm(vector)) - 1) < 1e-5
    assert np.allclose(vector, np.frombuffer(base64.b64decode(centroid["embedding"]), "<f4"), atol=1e-6)
    assert [entry["action"] for entry in subject_data["audit"]] == ["enrol"]


def test_identity_is_erased_after_its_retention_period(settings: Settings) -> None:
    from service.runtime.api import create_app
    from tests.conftest import serving

    frequent_maintenance = settings.model_copy(
        update={"database": settings.database.model_copy(update={"maintenance_interval_s": 0.3})}
    )
    name = f"test-{uuid.uuid4().hex[:12]}"
    with serving(create_app(frequent_maintenance)) as client:
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
        changed = client.patch(f"/identities/{second}", params={"collection": name}, json={"retain_until": None}).json()
        assert changed["retain_until"] is None
        wait_for(lambda: client.get(f"/identities/{first}", params={"collection": name}).status_code == 404, 30)
        remaining = client.get("/identities", params={"collection": name}).json()["identities"]
        assert {identity["label"] for identity in remaining} == {"kept", "later"}
        wait_for(lambda: any(item["action"] == "expire" for item in audit_entries(client, name)), 30)
        [entry] = [item for item in audit_entries(client, name) if item["action"] == "expire"]
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


def test_read_operations_are_audited_within_two_seconds(
    client: httpx.Client, collection_name: str, settings: Settings
) -> None:
    register(client, collection_name, "Collins", FACE)
    for _ in range(3):
        client.post("/search", params={"collection": collection_name}, json={"image": b64(FACE)})
    time.sleep(1.5)
    with psycopg.connect(str(settings.database_url).replace("+psycopg", "")) as connection:
        query = "SELECT count(*) FROM audit JOIN collection c ON c.id = collection_id WHERE c.name = %s AND action = %s"
        assert connection.execute(query, [collection_name, "search"]).fetchone() == (3,)


@pytest.mark.parametrize("cursor", ["x", "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkw", "LTE="])
def test_invalid_cursor_is_refused_or_returns_an_empty_page(
    client: httpx.Client, collection_name: str, cursor: str
) -> None:
    response = client.get("/audit", params={"collection": collection_name, "cursor": cursor})
    assert response.status_code in (200, 422), response.text
