"""Tests of listing, changing and deleting identities, templates and collections."""

import asyncio
import uuid

import httpx
import numpy as np
import pytest

from service.errors import CollectionNotFound
from service.gallery.index.centroids import centroid_of
from service.gallery.people import collection_deletion, identities, templates
from service.gallery.people.collections import Collection
from service.gallery.storage.database import Database
from service.gallery.storage.tables import centroid, template
from tests.gallery_rows import add_templates, create_identity
from tests.photos import COLLINS, HOPPER, b64, brighter


def enrol(client: httpx.Client, collection: str, external_id: str, *photos: bytes, label: str | None = None) -> str:
    """Enrols a new identity and returns its id."""
    body = {"external_id": external_id, "label": label, "images": [b64(photo) for photo in photos]}
    response = client.post(
        "/register",
        params={"collection": collection},
        json={key: value for key, value in body.items() if value is not None},
    )
    assert response.status_code == 201, response.text
    return response.json()["identity_id"]


def matches(client: httpx.Client, collection: str, photo: bytes) -> list[str]:
    """Searches for the face of a photo and returns the external ids of the matches."""
    response = client.post("/search", params={"collection": collection}, json={"image": b64(photo)}).json()
    return [candidate["external_id"] for candidate in response["results"][0]["candidates"] if candidate["match"]]


def test_identities_are_listed_by_label_and_external_id(client: httpx.Client, collection_name: str) -> None:
    enrol(client, collection_name, "1", COLLINS.read_bytes(), label="Eileen")
    enrol(client, collection_name, "2", HOPPER.read_bytes(), label="Grace")
    enrol(client, collection_name, "3", HOPPER.read_bytes(), label="Grace")

    def listed(**query: str) -> list[str]:
        response = client.get("/identities", params={"collection": collection_name, **query})
        return [identity["external_id"] for identity in response.json()["identities"]]

    assert listed() == ["1", "2", "3"]
    assert listed(label="Grace") == ["2", "3"]
    assert listed(external_id="1") == ["1"]
    assert listed(label="Grace", external_id="1") == listed(label="grace") == []
    assert client.get("/identities", params={"label": "a\x00"}).status_code == 422


def test_patch_changes_the_sent_fields_only(client: httpx.Client, collection_name: str) -> None:
    identity_id = enrol(client, collection_name, "1", COLLINS.read_bytes(), label="Eileen")
    address = f"/identities/{identity_id}?collection={collection_name}"
    before = client.get(address).json()
    changed = client.patch(address, json={"metadata": {"role": "astronaut"}}).json()
    assert (changed["label"], changed["metadata"]) == ("Eileen", {"role": "astronaut"})
    assert changed["updated_at"] > before["updated_at"]
    assert client.patch(address, json={"label": "Collins"}).json()["metadata"] == {"role": "astronaut"}
    unchanged = client.patch(address, json={}).json()
    assert unchanged == client.get(address).json()
    assert matches(client, collection_name, COLLINS.read_bytes()) == ["1"]
    assert client.patch(address, json={"external_id": "2"}).json()["code"] == "conflict"
    for body in ({"label": ""}, {"label": None, "metadata": [1]}, {"metadata": {"x": "\x00"}}):
        assert client.patch(address, json=body).status_code == 422, body
    unknown = client.patch(f"/identities/{uuid.uuid4()}?collection={collection_name}", json={"label": "x"})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "identity_not_found")


def test_deleting_a_wrong_template_ends_its_matches(client: httpx.Client, collection_name: str) -> None:
    """A photo of Hopper is enrolled for Collins by mistake, so Hopper matches Collins until it is deleted."""
    photos = [b64(COLLINS.read_bytes()), b64(HOPPER.read_bytes())]
    body = {"external_id": "collins", "images": photos}
    registered = client.post("/register", params={"collection": collection_name}, json=body).json()
    identity_id, wrong = registered["identity_id"], registered["images"][1]["template_id"]
    assert matches(client, collection_name, brighter(HOPPER, 0.8)) == ["collins"]
    address = f"/identities/{identity_id}/templates"
    stored = client.get(address, params={"collection": collection_name}).json()["templates"]
    assert len(stored) == 2
    assert all(item["quality"] is not None and len(item["box"]) == 4 for item in stored)
    assert "embedding" not in stored[0]
    deletion = client.delete(f"{address}/{wrong}", params={"collection": collection_name})
    assert deletion.json() == {"template_id": wrong, "templates_left": 1}
    assert matches(client, collection_name, brighter(HOPPER, 0.8)) == []
    assert matches(client, collection_name, brighter(COLLINS, 0.8)) == ["collins"]
    again = client.delete(f"{address}/{wrong}", params={"collection": collection_name})
    assert (again.status_code, again.json()["code"]) == (404, "template_not_found")


def test_identity_without_templates_remains_and_does_not_match(client: httpx.Client, collection_name: str) -> None:
    identity_id = enrol(client, collection_name, "collins", COLLINS.read_bytes())
    query = {"collection": collection_name}
    (stored,) = client.get(f"/identities/{identity_id}/templates", params=query).json()["templates"]
    deletion = client.delete(f"/identities/{identity_id}/templates/{stored['id']}", params=query).json()
    assert deletion["templates_left"] == 0
    assert client.get(f"/identities/{identity_id}", params=query).json()["template_count"] == 0
    assert matches(client, collection_name, COLLINS.read_bytes()) == []
    again = client.post(
        "/register",
        params={"collection": collection_name},
        json={"external_id": "collins", "images": [b64(COLLINS.read_bytes())]},
    ).json()
    assert (again["created"], again["template_count"]) == (False, 1)
    assert matches(client, collection_name, COLLINS.read_bytes()) == ["collins"]


def test_template_of_another_identity_is_not_deleted(client: httpx.Client, collection_name: str) -> None:
    ours = enrol(client, collection_name, "1", COLLINS.read_bytes())
    theirs = enrol(client, collection_name, "2", HOPPER.read_bytes())
    query = {"collection": collection_name}
    (stored,) = client.get(f"/identities/{theirs}/templates", params=query).json()["templates"]
    assert client.delete(f"/identities/{ours}/templates/{stored['id']}", params=query).status_code == 404
    assert len(client.get(f"/identities/{theirs}/templates", params=query).json()["templates"]) == 1


def test_deleting_a_collection_deletes_its_identities(client: httpx.Client) -> None:
    name = f"deleted-{uuid.uuid4().hex[:8]}"
    client.post("/collections", json={"name": name})
    enrol(client, name, "1", COLLINS.read_bytes())
    enrol(client, name, "2", HOPPER.read_bytes())
    assert client.delete(f"/collections/{name}").json() == {
        "name": name,
        "identities_deleted": 2,
        "identities_remaining": 0,
    }
    assert client.delete(f"/collections/{name}").json()["code"] == "collection_not_found"
    assert client.get("/identities", params={"collection": name}).status_code == 404
    refused = client.delete("/collections/default")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")


@pytest.mark.anyio
async def test_centroid_is_exact_after_concurrent_changes(database: Database, collection: Collection) -> None:
    """Ten clients add and delete templates of one identity concurrently. No update is lost."""
    rng = np.random.default_rng(0)
    async with database.transaction() as connection:
        identity_id = await create_identity(connection, collection.id, "p")

    async def add_and_delete(number: int) -> None:
        vector = rng.normal(size=16).astype(np.float32)
        embedding = vector / np.linalg.norm(vector)
        async with database.transaction() as connection:
            await identities.lock(connection, collection.id, identity_id)
            (added,) = await add_templates(connection, collection.id, identity_id, "tiny", embedding[None])
        if number % 2:
            async with database.transaction() as connection:
                await identities.lock(connection, collection.id, identity_id)
                assert added.id is not None
                await templates.remove(connection, collection.id, identity_id, added.id)

    await asyncio.gather(*(add_and_delete(number) for number in range(10)))
    async with database.transaction() as connection:
        rows = (await connection.execute(template.select().where(template.c.identity_id == identity_id))).all()
        stored = (await connection.execute(centroid.select().where(centroid.c.identity_id == identity_id))).one()
    assert len(rows) == stored.template_count == 5
    expected = centroid_of(np.stack([np.asarray(row.embedding, np.float32) for row in rows]))
    np.testing.assert_allclose(np.asarray(stored.embedding, np.float32), expected, atol=1e-5)


@pytest.mark.anyio
async def test_enrolment_fails_if_the_collection_is_deleted_meanwhile(
    database: Database, collection: Collection
) -> None:
    async with database.transaction() as connection:
        collection_id, _ = await collection_deletion.mark_deleted(connection, collection.name)
    await collection_deletion.delete_rows(database, collection_id)
    with pytest.raises(CollectionNotFound, match="deleted during the request"):
        async with database.transaction() as connection:
            await create_identity(connection, collection.id, "p")
