"""Tests of stored crops: encryption, export, erasure, and their use by a model migration."""

import base64
import io

import httpx
import pytest
from PIL import Image
from sqlalchemy import text

from service.gallery.storage.database import Database
from service.runtime.api import create_app
from service.runtime.settings import CropSettings, Settings
from tests.conftest import serving
from tests.contract.model_migration import (
    FIRST_MODEL,
    SECOND_MODEL,
    best_candidate,
    create_collection,
    job_finished,
    migration,
    register,
    search_for,
    start_migration,
)
from tests.photos import BUS, COLLINS, HOPPER, b64, brighter, encoded, pixels


def test_crops_are_exported_and_erased(multi_model: httpx.Client) -> None:
    name = create_collection(multi_model, store_crops=True)
    made = register(multi_model, name, "collins", COLLINS.read_bytes(), brighter(COLLINS, 0.8))
    person = f"/identities/{made['identity_id']}"
    held = multi_model.get(f"{person}/export", params={"collection": name}).json()
    assert {one["source_sha256"] for one in held["crops"]} == {one["source_sha256"] for one in held["templates"]}
    for one in held["crops"]:
        with Image.open(io.BytesIO(base64.b64decode(one["image"]))) as picture:
            assert (picture.size, picture.format) == ((112, 112), "PNG")
    template = made["images"][0]["template_id"]
    assert multi_model.delete(f"{person}/templates/{template}", params={"collection": name}).status_code == 200
    held = multi_model.get(f"{person}/export", params={"collection": name}).json()
    assert len(held["crops"]) == len(held["templates"]) == 1
    receipt = multi_model.delete(person, params={"collection": name}).json()
    assert receipt["deleted"]["crops"] == 1


@pytest.mark.anyio
async def test_crops_are_encrypted_and_go_when_nobody_wants_them(multi_model: httpx.Client, database: Database) -> None:
    name = create_collection(multi_model, store_crops=True)
    register(multi_model, name, "collins", COLLINS.read_bytes())
    query = text("SELECT sealed FROM crop p JOIN collection c ON c.id = p.collection_id WHERE c.name = :name")

    async def stored() -> list[bytes]:
        async with database.transaction(all_collections=True) as connection:
            return list((await connection.execute(query, {"name": name})).scalars())

    (sealed,) = await stored()
    assert b"PNG" not in sealed
    assert b"IDAT" not in sealed
    assert multi_model.patch(f"/collections/{name}", json={"store_crops": False}).json()["store_crops"] is False
    assert await stored() == []
    register(multi_model, name, "hopper", HOPPER.read_bytes())
    assert await stored() == []


def test_what_belongs_to_a_face_stays_together(multi_model: httpx.Client) -> None:
    """Merging, splitting, moving and deleting while two models know everybody."""
    name = create_collection(multi_model, store_crops=True)
    start_migration(multi_model, name, auto_activate=False)
    wait_for_migration(multi_model, name, job_finished)
    query = {"collection": name}
    one = register(multi_model, name, "one", COLLINS.read_bytes(), brighter(COLLINS, 0.8))
    two = register(multi_model, name, "two", HOPPER.read_bytes(), COLLINS.read_bytes())
    merged = multi_model.post(
        f"/identities/{one['identity_id']}/merge", params=query, json={"identities": [two["identity_id"]]}
    )
    assert merged.json()["template_count"] == 3
    hopper = two["images"][0]["template_id"]
    body = {"template_ids": [hopper], "external_id": "hopper"}
    made = multi_model.post(f"/identities/{one['identity_id']}/split", params=query, json=body).json()
    assert made["template_count"] == 1
    target = create_collection(multi_model)
    multi_model.post(f"/identities/{made['id']}/move", params=query, json={"to": target})
    assert migration(multi_model, name)["coverage"] == {"identities": 1, "missing": 0, "partial": 0, "corrections_missing": 0}
    held = multi_model.get(f"/identities/{made['id']}/export", params={"collection": target}).json()
    assert ([one["model_id"] for one in held["templates"]], held["crops"]) == ([FIRST_MODEL], [])
    listed = multi_model.get(f"/identities/{one['identity_id']}/templates", params=query).json()["templates"]
    assert {item["model_id"] for item in listed} == {FIRST_MODEL}
    multi_model.delete(f"/identities/{one['identity_id']}/templates/{listed[0]['id']}", params=query)
    held = multi_model.get(f"/identities/{one['identity_id']}/export", params=query).json()
    assert (len(held["templates"]), len(held["centroids"]), len(held["crops"])) == (2, 2, 1)


def test_a_crop_is_worth_its_photo(multi_model: httpx.Client) -> None:
    """What another model makes of a stored crop is what it makes of the photo."""
    name = create_collection(multi_model, store_crops=True)
    photo = encoded(pixels(BUS)[:, :, :], "PNG")
    register(multi_model, name, "rider", photo, face="largest", force=True)
    start_migration(multi_model, name)
    wait_for_migration(multi_model, name, lambda view: view["model_id"] == SECOND_MODEL)
    assert best_candidate(search_for(multi_model, name, photo, face="largest"))["score"] > 0.9999


@pytest.mark.anyio
async def test_merging_leaves_no_crop_that_nothing_is_of(multi_model: httpx.Client, database: Database) -> None:
    """Two who are one: "this is not that person" is forgotten, and so is the picture that it was about."""
    name = create_collection(multi_model, store_crops=True, quality="off")
    query = {"collection": name}
    one = register(multi_model, name, "one", COLLINS.read_bytes())["identity_id"]
    two = register(multi_model, name, "two", brighter(COLLINS, 0.8))["identity_id"]
    wrong = {"image": b64(brighter(COLLINS, 0.9))}
    assert multi_model.post(f"/identities/{two}/corrections", params=query, json=wrong).status_code == 201
    assert multi_model.post(f"/identities/{one}/merge", params=query, json={"identities": [two]}).status_code == 200
    assert multi_model.get(f"/identities/{one}/corrections", params=query).json()["corrections"] == []
    crops = text("SELECT count(*) FROM crop p JOIN collection c ON c.id = p.collection_id WHERE c.name = :name")
    async with database.transaction(all_collections=True) as connection:
        assert (await connection.execute(crops, {"name": name})).scalar() == 2


def test_a_lost_key_is_made_up_for_by_the_same_photo(multi_model: httpx.Client, multi_model_settings: Settings) -> None:
    """Another service has another key: what it kept can't be read here, until the photo comes again."""
    elsewhere = multi_model_settings.model_copy(update={"crops": CropSettings(key="another key for the crops, also long enough")})
    name = create_collection(multi_model, store_crops=True)
    with serving(create_app(elsewhere)) as other:
        register(other, name, "collins", COLLINS.read_bytes())
    start_migration(multi_model, name)
    view = wait_for_migration(multi_model, name, job_finished)
    assert view["job"]["counts"]["rejected"] == 1
    multi_model.delete(f"/collections/{name}/model-migration")
    register(multi_model, name, "collins", COLLINS.read_bytes())
    start_migration(multi_model, name)
    wait_for_migration(multi_model, name, lambda view: view["model_id"] == SECOND_MODEL)
    assert migration(multi_model, name)["coverage"]["missing"] == 0
