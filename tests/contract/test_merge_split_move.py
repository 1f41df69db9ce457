"""Tests of merging, splitting and moving identities with real pictures through the API."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from sqlalchemy import text

from service.gallery.storage.database import Database
from tests.photos import COLLINS, HOPPER, b64, brighter


def enrol(client: httpx.Client, collection: str, label: str, *pictures: bytes) -> dict:
    """Enrols pictures under a label and returns the body of the response."""
    body = {"label": label, "images": [b64(picture) for picture in pictures]}
    response = client.post("/register", params={"collection": collection}, json=body)
    assert response.status_code in (200, 201), response.text
    return response.json()


def template_counts(client: httpx.Client, collection: str) -> dict[str, int]:
    """Returns the number of templates of each identity of a collection by external id."""
    identities = client.get("/identities", params={"collection": collection}).json()["identities"]
    return {identity["external_id"]: identity["template_count"] for identity in identities}


def best_candidate(client: httpx.Client, collection: str, picture: bytes) -> dict:
    """Searches for a picture and returns the first candidate."""
    response = client.post(
        "/search", params={"collection": collection}, json={"image": b64(picture), "top_k": 1}
    ).json()
    return response["results"][0]["candidates"][0]


async def require_exact_centroids(database: Database, collection: str) -> None:
    """Checks that each identity with templates has a centroid, which is the normalised mean of its templates."""
    query = """SELECT t.identity_id, t.embedding::text AS raw, c.embedding::text AS mean
        FROM template t JOIN collection n ON n.id = t.collection_id AND n.name = :name
        LEFT JOIN centroid c ON (c.collection_id, c.identity_id, c.model_id)
                              = (t.collection_id, t.identity_id, t.model_id)"""
    rows_of: dict[uuid.UUID, tuple[list[np.ndarray], str]] = {}
    async with database.transaction() as connection:
        for row in await connection.execute(text(query), {"name": collection}):
            assert row.mean is not None
            rows_of.setdefault(row.identity_id, ([], row.mean))[0].append(np.fromstring(row.raw[1:-1], sep=","))
    for raw, mean in rows_of.values():
        expected = np.mean(raw, axis=0)
        np.testing.assert_allclose(np.fromstring(mean[1:-1], sep=","), expected / np.linalg.norm(expected), atol=1e-5)


@pytest.mark.anyio
async def test_merge_moves_templates_and_drops_duplicates(
    client: httpx.Client, collection_name: str, database: Database
) -> None:
    first = enrol(client, collection_name, "collins", COLLINS.read_bytes())
    second = enrol(client, collection_name, "eileen", brighter(COLLINS, 0.8), COLLINS.read_bytes())
    response = client.post(
        f"/identities/{first['identity_id']}/merge",
        params={"collection": collection_name},
        json={"identities": [second["identity_id"]]},
    )
    assert response.status_code == 200, response.text
    assert (response.json()["templates_moved"], response.json()["template_count"]) == (1, 2)
    assert template_counts(client, collection_name) == {"collins": 2}
    await require_exact_centroids(database, collection_name)
    assert best_candidate(client, collection_name, brighter(COLLINS, 0.8))["score"] > 0.98


@pytest.mark.anyio
async def test_split_creates_an_identity_from_chosen_templates(
    client: httpx.Client, collection_name: str, database: Database
) -> None:
    mixed = enrol(client, collection_name, "crew", COLLINS.read_bytes(), brighter(COLLINS, 0.8), HOPPER.read_bytes())
    wrong_template = mixed["images"][2]["template_id"]
    scope = {"collection": collection_name}
    body = {"template_ids": [wrong_template], "external_id": "hopper", "metadata": {"navy": True}}
    response = client.post(f"/identities/{mixed['identity_id']}/split", params=scope, json=body)
    assert response.status_code == 201, response.text
    assert (response.json()["label"], response.json()["template_count"]) == ("hopper", 1)
    assert template_counts(client, collection_name) == {"crew": 2, "hopper": 1}
    await require_exact_centroids(database, collection_name)
    candidate = best_candidate(client, collection_name, HOPPER.read_bytes())
    assert (candidate["external_id"], candidate["metadata"]) == ("hopper", {"navy": True})
    taken = client.post(
        f"/identities/{mixed['identity_id']}/split",
        params=scope,
        json={"template_ids": [mixed["images"][0]["template_id"]], "external_id": "hopper"},
    )
    assert (taken.status_code, taken.json()["code"]) == (409, "identity_exists")
    all_templates = {
        "template_ids": [image["template_id"] for image in mixed["images"][:2]],
        "external_id": "everything",
    }
    refused = client.post(f"/identities/{mixed['identity_id']}/split", params=scope, json=all_templates)
    assert (refused.status_code, refused.json()["code"]) == (409, "no_template_left")
    other = client.post(f"/identities/{mixed['identity_id']}/split", params=scope, json={**body, "external_id": "x"})
    assert (other.status_code, other.json()["code"]) == (404, "template_not_found")
    assert template_counts(client, collection_name) == {"crew": 2, "hopper": 1}


@pytest.mark.anyio
async def test_move_to_another_collection(client: httpx.Client, collection_name: str, database: Database) -> None:
    target = f"test-{uuid.uuid4().hex[:12]}"
    assert client.post("/collections", json={"name": target}).status_code == 201
    identity = enrol(client, collection_name, "collins", COLLINS.read_bytes(), brighter(COLLINS, 0.8))
    path = f"/identities/{identity['identity_id']}/move"
    moved = client.post(path, params={"collection": collection_name}, json={"to": target})
    assert moved.status_code == 200, moved.text
    assert moved.json()["id"] == identity["identity_id"]
    assert (template_counts(client, collection_name), template_counts(client, target)) == ({}, {"collins": 2})
    await require_exact_centroids(database, target)
    assert best_candidate(client, target, COLLINS.read_bytes())["external_id"] == "collins"
    assert client.post(path, params={"collection": collection_name}, json={"to": target}).status_code == 404
    enrol(client, collection_name, "collins", HOPPER.read_bytes())
    back = client.post(path, params={"collection": target}, json={"to": collection_name})
    assert (back.status_code, back.json()["code"]) == (409, "identity_exists")
    assert template_counts(client, target) == {"collins": 2}


@pytest.mark.anyio
async def test_move_to_a_collection_of_another_model_is_refused(
    client: httpx.Client, collection_name: str, database: Database
) -> None:
    from service.gallery.people import collections

    other = f"test-{uuid.uuid4().hex[:12]}"
    async with database.transaction() as connection:
        await collections.add_model(connection, "tiny", 16, "0" * 64)
        await collections.create(connection, other, "tiny")
    identity = enrol(client, collection_name, "collins", COLLINS.read_bytes())
    path = f"/identities/{identity['identity_id']}/move"
    response = client.post(path, params={"collection": collection_name}, json={"to": other})
    assert (response.status_code, response.json()["code"]) == (409, "other_model")


def test_merge_requires_other_existing_identities(client: httpx.Client, collection_name: str) -> None:
    identity_id = enrol(client, collection_name, "collins", COLLINS.read_bytes())["identity_id"]
    path, scope = f"/identities/{identity_id}/merge", {"collection": collection_name}
    assert client.post(path, params=scope, json={"identities": [identity_id]}).status_code == 422
    assert client.post(path, params=scope, json={"identities": [str(uuid.uuid4())]}).status_code == 404
    assert template_counts(client, collection_name) == {"collins": 1}


def test_one_of_two_opposite_concurrent_merges_succeeds(client: httpx.Client, collection_name: str) -> None:
    """The other one gets 404, because its target is merged already. There is no deadlock."""
    for _ in range(5):
        one = enrol(client, collection_name, "one", COLLINS.read_bytes())["identity_id"]
        two = enrol(client, collection_name, "two", brighter(COLLINS, 0.8))["identity_id"]

        def merge(pair: tuple[str, str]) -> int:
            into, other = pair
            path, scope = f"/identities/{into}/merge", {"collection": collection_name}
            return client.post(path, params=scope, json={"identities": [other]}).status_code

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(merge, [(one, two), (two, one)])) == [200, 404]
        ((name, count),) = template_counts(client, collection_name).items()
        assert count == 2
        remaining = one if name == "one" else two
        assert client.delete(f"/identities/{remaining}", params={"collection": collection_name}).status_code == 200
