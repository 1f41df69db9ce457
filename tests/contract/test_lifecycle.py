"""What comes after enrolment: finding, changing and deleting people, templates and collections."""

import asyncio
import uuid

import httpx
import numpy as np
import pytest

from service.errors import CollectionNotFound
from service.gallery.index.centroids import centroid_of
from service.gallery.people import collections, identities, templates
from service.gallery.people.collections import Collection
from service.gallery.storage.database import Database
from service.gallery.storage.tables import centroid, template
from tests.gallery_rows import add_templates, create_identity
from tests.photos import COLLINS, HOPPER, b64, brighter


def enrol(client: httpx.Client, collection: str, external_id: str, *photos: bytes, label: str | None = None) -> str:
    body = {"external_id": external_id, "label": label, "images": [b64(p) for p in photos]}
    answer = client.post(
        "/register",
        params={"collection": collection},
        json={key: value for key, value in body.items() if value is not None},
    )
    assert answer.status_code == 201, answer.text
    return answer.json()["identity_id"]


def found(client: httpx.Client, collection: str, photo: bytes) -> list[str]:
    answer = client.post("/search", params={"collection": collection}, json={"image": b64(photo)}).json()
    return [candidate["external_id"] for candidate in answer["results"][0]["candidates"] if candidate["match"]]


def test_people_are_found_by_label_and_by_their_own_id(client: httpx.Client, collection_name: str) -> None:
    enrol(client, collection_name, "1", COLLINS.read_bytes(), label="Eileen")
    enrol(client, collection_name, "2", HOPPER.read_bytes(), label="Grace")
    enrol(client, collection_name, "3", HOPPER.read_bytes(), label="Grace")

    def listed(**query: str) -> list[str]:
        answer = client.get("/identities", params={"collection": collection_name, **query})
        return [person["external_id"] for person in answer.json()["identities"]]

    assert listed() == ["1", "2", "3"]
    assert listed(label="Grace") == ["2", "3"]
    assert listed(external_id="1") == ["1"]
    assert listed(label="Grace", external_id="1") == listed(label="grace") == []
    assert client.get("/identities", params={"label": "a\x00"}).status_code == 422


def test_a_change_leaves_the_rest_as_it_is(client: httpx.Client, collection_name: str) -> None:
    person = enrol(client, collection_name, "1", COLLINS.read_bytes(), label="Eileen")
    address = f"/identities/{person}?collection={collection_name}"
    before = client.get(address).json()
    changed = client.patch(address, json={"metadata": {"role": "astronaut"}}).json()
    assert (changed["label"], changed["metadata"]) == ("Eileen", {"role": "astronaut"})
    assert changed["updated_at"] > before["updated_at"]
    assert client.patch(address, json={"label": "Collins"}).json()["metadata"] == {"role": "astronaut"}
    untouched = client.patch(address, json={}).json()
    assert untouched == client.get(address).json()
    assert found(client, collection_name, COLLINS.read_bytes()) == ["1"]
    for body in ({"external_id": "2"}, {"label": ""}, {"label": None, "metadata": [1]}, {"metadata": {"x": "\x00"}}):
        assert client.patch(address, json=body).status_code == 422, body
    nobody = client.patch(f"/identities/{uuid.uuid4()}?collection={collection_name}", json={"label": "x"})
    assert (nobody.status_code, nobody.json()["code"]) == (404, "identity_not_found")


def test_one_wrong_photo_can_be_taken_out(client: httpx.Client, collection_name: str) -> None:
    """Somebody put Hopper's photo among Collins's: she is found as Collins until it goes."""
    photos = [b64(COLLINS.read_bytes()), b64(HOPPER.read_bytes())]
    body = {"external_id": "collins", "images": photos}
    made = client.post("/register", params={"collection": collection_name}, json=body).json()
    person, wrong = made["identity_id"], made["images"][1]["template_id"]
    assert found(client, collection_name, brighter(HOPPER, 0.8)) == ["collins"]
    address = f"/identities/{person}/templates"
    stored = client.get(address, params={"collection": collection_name}).json()["templates"]
    assert len(stored) == 2
    assert all(item["quality"] is not None and len(item["box"]) == 4 for item in stored)
    assert "embedding" not in stored[0]
    gone = client.delete(f"{address}/{wrong}", params={"collection": collection_name})
    assert gone.json() == {"template_id": wrong, "templates_left": 1}
    assert found(client, collection_name, brighter(HOPPER, 0.8)) == []
    assert found(client, collection_name, brighter(COLLINS, 0.8)) == ["collins"]
    again = client.delete(f"{address}/{wrong}", params={"collection": collection_name})
    assert (again.status_code, again.json()["code"]) == (404, "template_not_found")


def test_without_templates_a_person_stays_and_is_not_found(client: httpx.Client, collection_name: str) -> None:
    person = enrol(client, collection_name, "collins", COLLINS.read_bytes())
    query = {"collection": collection_name}
    (stored,) = client.get(f"/identities/{person}/templates", params=query).json()["templates"]
    left = client.delete(f"/identities/{person}/templates/{stored['id']}", params=query).json()
    assert left["templates_left"] == 0
    assert client.get(f"/identities/{person}", params=query).json()["template_count"] == 0
    assert found(client, collection_name, COLLINS.read_bytes()) == []
    again = client.post(
        "/register",
        params={"collection": collection_name},
        json={"external_id": "collins", "images": [b64(COLLINS.read_bytes())]},
    ).json()
    assert (again["created"], again["template_count"]) == (False, 1)
    assert found(client, collection_name, COLLINS.read_bytes()) == ["collins"]


def test_another_persons_template_is_not_deleted(client: httpx.Client, collection_name: str) -> None:
    ours = enrol(client, collection_name, "1", COLLINS.read_bytes())
    theirs = enrol(client, collection_name, "2", HOPPER.read_bytes())
    query = {"collection": collection_name}
    (stored,) = client.get(f"/identities/{theirs}/templates", params=query).json()["templates"]
    assert client.delete(f"/identities/{ours}/templates/{stored['id']}", params=query).status_code == 404
    assert len(client.get(f"/identities/{theirs}/templates", params=query).json()["templates"]) == 1


def test_a_collection_goes_with_everybody_in_it(client: httpx.Client) -> None:
    name = f"gone-{uuid.uuid4().hex[:8]}"
    client.post("/collections", json={"name": name})
    enrol(client, name, "1", COLLINS.read_bytes())
    enrol(client, name, "2", HOPPER.read_bytes())
    assert client.delete(f"/collections/{name}").json() == {"name": name, "identities_deleted": 2}
    assert client.delete(f"/collections/{name}").json()["code"] == "collection_not_found"
    assert client.get("/identities", params={"collection": name}).status_code == 404
    kept = client.delete("/collections/default")
    assert (kept.status_code, kept.json()["code"]) == (409, "conflict")


@pytest.mark.anyio
async def test_centroids_stay_what_templates_give_however_they_come_and_go(
    database: Database, collection: Collection
) -> None:
    """Ten clients add and delete templates of one person at once; no template and no centroid is lost."""
    rng = np.random.default_rng(0)
    async with database.transaction() as connection:
        person = await create_identity(connection, collection.id, "p")

    async def come_and_go(number: int) -> None:
        vector = rng.normal(size=16).astype(np.float32)
        embedding = vector / np.linalg.norm(vector)
        async with database.transaction() as connection:
            await identities.lock(connection, collection.id, person)
            (added,) = await add_templates(connection, collection.id, person, "tiny", embedding[None])
        if number % 2:
            async with database.transaction() as connection:
                await identities.lock(connection, collection.id, person)
                assert added.id is not None
                await templates.remove(connection, collection.id, person, added.id)

    await asyncio.gather(*(come_and_go(number) for number in range(10)))
    async with database.transaction() as connection:
        rows = (await connection.execute(template.select().where(template.c.identity_id == person))).all()
        kept = (await connection.execute(centroid.select().where(centroid.c.identity_id == person))).one()
    assert len(rows) == kept.template_count == 5
    expected = centroid_of(np.stack([np.asarray(row.embedding, np.float32) for row in rows]))
    np.testing.assert_allclose(np.asarray(kept.embedding, np.float32), expected, atol=1e-5)


@pytest.mark.anyio
async def test_who_enrols_into_a_vanishing_collection_hears_of_it(database: Database, collection: Collection) -> None:
    async with database.transaction() as connection:
        await collections.remove(connection, collection.name)
    with pytest.raises(CollectionNotFound, match="deleted during the request"):
        async with database.transaction() as connection:
            await create_identity(connection, collection.id, "p")
