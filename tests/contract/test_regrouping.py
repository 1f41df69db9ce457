"""Merging, splitting and moving people, on real pictures through the API."""

import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from sqlalchemy import text

from service.gallery.storage.database import Database
from tests.photos import COLLINS, HOPPER, b64, brighter


def enrol(client: httpx.Client, collection: str, label: str, *pictures: bytes) -> dict:
    body = {"label": label, "images": [b64(picture) for picture in pictures]}
    answer = client.post("/register", params={"collection": collection}, json=body)
    assert answer.status_code in (200, 201), answer.text
    return answer.json()


def listed(client: httpx.Client, collection: str) -> dict[str, int]:
    people = client.get("/identities", params={"collection": collection}).json()["identities"]
    return {person["external_id"]: person["template_count"] for person in people}


def nearest(client: httpx.Client, collection: str, picture: bytes) -> dict:
    answer = client.post("/search", params={"collection": collection}, json={"image": b64(picture), "top_k": 1}).json()
    return answer["results"][0]["candidates"][0]


async def require_exact_centroids(database: Database, collection: str) -> None:
    """Every centroid is the normalised mean of its templates, and everybody with templates has one."""
    query = """SELECT t.identity_id, t.embedding::text AS raw, c.embedding::text AS mean
        FROM template t JOIN collection n ON n.id = t.collection_id AND n.name = :name
        LEFT JOIN centroid c ON (c.collection_id, c.identity_id, c.model_id)
                              = (t.collection_id, t.identity_id, t.model_id)"""
    people: dict[uuid.UUID, tuple[list[np.ndarray], str]] = {}
    async with database.transaction() as connection:
        for row in await connection.execute(text(query), {"name": collection}):
            assert row.mean is not None
            people.setdefault(row.identity_id, ([], row.mean))[0].append(np.fromstring(row.raw[1:-1], sep=","))
    for raw, mean in people.values():
        expected = np.mean(raw, axis=0)
        np.testing.assert_allclose(np.fromstring(mean[1:-1], sep=","), expected / np.linalg.norm(expected), atol=1e-5)


@pytest.mark.anyio
async def test_two_who_are_one(client: httpx.Client, collection_name: str, database: Database) -> None:
    first = enrol(client, collection_name, "collins", COLLINS.read_bytes())
    second = enrol(client, collection_name, "eileen", brighter(COLLINS, 0.8), COLLINS.read_bytes())
    answer = client.post(
        f"/identities/{first['identity_id']}/merge",
        params={"collection": collection_name},
        json={"identities": [second["identity_id"]]},
    )
    assert answer.status_code == 200, answer.text
    assert (answer.json()["templates_moved"], answer.json()["template_count"]) == (1, 2)
    assert listed(client, collection_name) == {"collins": 2}
    await require_exact_centroids(database, collection_name)
    assert nearest(client, collection_name, brighter(COLLINS, 0.8))["score"] == pytest.approx(1, abs=1e-3)


@pytest.mark.anyio
async def test_one_who_is_two(client: httpx.Client, collection_name: str, database: Database) -> None:
    mixed = enrol(client, collection_name, "crew", COLLINS.read_bytes(), brighter(COLLINS, 0.8), HOPPER.read_bytes())
    theirs = mixed["images"][2]["template_id"]
    where = {"collection": collection_name}
    body = {"template_ids": [theirs], "external_id": "hopper", "metadata": {"navy": True}}
    answer = client.post(f"/identities/{mixed['identity_id']}/split", params=where, json=body)
    assert answer.status_code == 201, answer.text
    assert (answer.json()["label"], answer.json()["template_count"]) == ("hopper", 1)
    assert listed(client, collection_name) == {"crew": 2, "hopper": 1}
    await require_exact_centroids(database, collection_name)
    found = nearest(client, collection_name, HOPPER.read_bytes())
    assert (found["external_id"], found["metadata"]) == ("hopper", {"navy": True})
    taken = client.post(
        f"/identities/{mixed['identity_id']}/split",
        params=where,
        json={"template_ids": [mixed["images"][0]["template_id"]], "external_id": "hopper"},
    )
    assert (taken.status_code, taken.json()["code"]) == (409, "identity_exists")
    everything = {
        "template_ids": [image["template_id"] for image in mixed["images"][:2]],
        "external_id": "all of them",
    }
    nothing = client.post(f"/identities/{mixed['identity_id']}/split", params=where, json=everything)
    assert (nothing.status_code, nothing.json()["code"]) == (409, "no_template_left")
    other = client.post(f"/identities/{mixed['identity_id']}/split", params=where, json={**body, "external_id": "x"})
    assert (other.status_code, other.json()["code"]) == (404, "template_not_found")
    assert listed(client, collection_name) == {"crew": 2, "hopper": 1}


@pytest.mark.anyio
async def test_moving_to_another_collection(client: httpx.Client, collection_name: str, database: Database) -> None:
    target = f"test-{uuid.uuid4().hex[:12]}"
    assert client.post("/collections", json={"name": target}).status_code == 201
    person = enrol(client, collection_name, "collins", COLLINS.read_bytes(), brighter(COLLINS, 0.8))
    path = f"/identities/{person['identity_id']}/move"
    moved = client.post(path, params={"collection": collection_name}, json={"to": target})
    assert moved.status_code == 200, moved.text
    assert moved.json()["id"] == person["identity_id"]
    assert (listed(client, collection_name), listed(client, target)) == ({}, {"collins": 2})
    await require_exact_centroids(database, target)
    assert nearest(client, target, COLLINS.read_bytes())["external_id"] == "collins"
    assert client.post(path, params={"collection": collection_name}, json={"to": target}).status_code == 404
    enrol(client, collection_name, "collins", HOPPER.read_bytes())
    back = client.post(path, params={"collection": target}, json={"to": collection_name})
    assert (back.status_code, back.json()["code"]) == (409, "identity_exists")
    assert listed(client, target) == {"collins": 2}


@pytest.mark.anyio
async def test_only_within_one_model(client: httpx.Client, collection_name: str, database: Database) -> None:
    from service.gallery.people import collections

    other = f"test-{uuid.uuid4().hex[:12]}"
    async with database.transaction() as connection:
        await collections.add_model(connection, "tiny", 16, "0" * 64)
        await collections.create(connection, other, "tiny")
    person = enrol(client, collection_name, "collins", COLLINS.read_bytes())
    path = f"/identities/{person['identity_id']}/move"
    answer = client.post(path, params={"collection": collection_name}, json={"to": other})
    assert (answer.status_code, answer.json()["code"]) == (409, "other_model")


def test_merging_needs_other_people(client: httpx.Client, collection_name: str) -> None:
    person = enrol(client, collection_name, "collins", COLLINS.read_bytes())["identity_id"]
    path, where = f"/identities/{person}/merge", {"collection": collection_name}
    assert client.post(path, params=where, json={"identities": [person]}).status_code == 422
    assert client.post(path, params=where, json={"identities": [str(uuid.uuid4())]}).status_code == 404
    assert listed(client, collection_name) == {"collins": 1}


def test_merging_both_ways_at_once_leaves_one(client: httpx.Client, collection_name: str) -> None:
    """Each is merged into the other: one goes through, the other finds its target gone. Nobody waits for ever."""
    for _ in range(5):
        one = enrol(client, collection_name, "one", COLLINS.read_bytes())["identity_id"]
        two = enrol(client, collection_name, "two", brighter(COLLINS, 0.8))["identity_id"]

        def merge(pair: tuple[str, str]) -> int:
            into, other = pair
            path, where = f"/identities/{into}/merge", {"collection": collection_name}
            return client.post(path, params=where, json={"identities": [other]}).status_code

        with ThreadPoolExecutor(2) as pool:
            assert sorted(pool.map(merge, [(one, two), (two, one)])) == [200, 404]
        ((name, count),) = listed(client, collection_name).items()
        assert count == 2
        left = one if name == "one" else two
        assert client.delete(f"/identities/{left}", params={"collection": collection_name}).status_code == 200
