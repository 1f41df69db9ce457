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
    wait_for_migration,
)
from tests.photos import BUS, COLLINS, HOPPER, b64, brighter, encoded, pixels


def test_crops_are_exported_and_erased(multi_model: httpx.Client) -> None:
    name = create_collection(multi_model, store_crops=True)
    registered = register(multi_model, name, "collins", COLLINS.read_bytes(), brighter(COLLINS, 0.8))
    path = f"/identities/{registered['identity_id']}"
    subject_data = multi_model.get(f"{path}/export", params={"collection": name}).json()
    templates = subject_data["templates"]
    assert {crop["source_sha256"] for crop in subject_data["crops"]} == {item["source_sha256"] for item in templates}
    for crop in subject_data["crops"]:
        with Image.open(io.BytesIO(base64.b64decode(crop["image"]))) as picture:
            assert (picture.size, picture.format) == ((112, 112), "PNG")
    template = registered["images"][0]["template_id"]
    assert multi_model.delete(f"{path}/templates/{template}", params={"collection": name}).status_code == 200
    subject_data = multi_model.get(f"{path}/export", params={"collection": name}).json()
    assert len(subject_data["crops"]) == len(subject_data["templates"]) == 1
    receipt = multi_model.delete(path, params={"collection": name}).json()
    assert receipt["deleted"]["crops"] == 1


@pytest.mark.anyio
async def test_crops_are_encrypted_and_deleted_when_storage_ends(multi_model: httpx.Client, database: Database) -> None:
    name = create_collection(multi_model, store_crops=True)
    register(multi_model, name, "collins", COLLINS.read_bytes())
    query = text("SELECT sealed FROM crop p JOIN collection c ON c.id = p.collection_id WHERE c.name = :name")

    async def stored_crops() -> list[bytes]:
        async with database.transaction(all_collections=True) as connection:
            return list((await connection.execute(query, {"name": name})).scalars())

    (encrypted,) = await stored_crops()
    assert b"PNG" not in encrypted
    assert b"IDAT" not in encrypted
    assert multi_model.patch(f"/collections/{name}", json={"store_crops": False}).json()["store_crops"] is False
    assert await stored_crops() == []
    register(multi_model, name, "hopper", HOPPER.read_bytes())
    assert await stored_crops() == []


def test_templates_and_crops_stay_consistent_under_two_models(multi_model: httpx.Client) -> None:
    """Merges, splits, moves and deletes identities that have templates under both models."""
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
    split = multi_model.post(f"/identities/{one['identity_id']}/split", params=query, json=body).json()
    assert split["template_count"] == 1
    target = create_collection(multi_model)
    multi_model.post(f"/identities/{split['id']}/move", params=query, json={"to": target})
    complete = {"identities": 1, "missing": 0, "partial": 0, "corrections_missing": 0}
    assert migration(multi_model, name)["coverage"] == complete
    subject_data = multi_model.get(f"/identities/{split['id']}/export", params={"collection": target}).json()
    assert ([item["model_id"] for item in subject_data["templates"]], subject_data["crops"]) == ([FIRST_MODEL], [])
    listed = multi_model.get(f"/identities/{one['identity_id']}/templates", params=query).json()["templates"]
    assert {item["model_id"] for item in listed} == {FIRST_MODEL}
    multi_model.delete(f"/identities/{one['identity_id']}/templates/{listed[0]['id']}", params=query)
    subject_data = multi_model.get(f"/identities/{one['identity_id']}/export", params=query).json()
    assert (len(subject_data["templates"]), len(subject_data["centroids"]), len(subject_data["crops"])) == (2, 2, 1)


def test_reembedded_crop_equals_the_embedding_of_its_photo(multi_model: httpx.Client) -> None:
    name = create_collection(multi_model, store_crops=True)
    photo = encoded(pixels(BUS), "PNG")
    register(multi_model, name, "rider", photo, face="largest", force=True)
    start_migration(multi_model, name)
    wait_for_migration(multi_model, name, lambda state: state["model_id"] == SECOND_MODEL)
    assert best_candidate(search_for(multi_model, name, photo, face="largest"))["score"] > 0.9999


@pytest.mark.anyio
async def test_merge_deletes_the_crops_of_dropped_corrections(multi_model: httpx.Client, database: Database) -> None:
    """A merge drops the corrections of the merged identities that show one of these identities."""
    name = create_collection(multi_model, store_crops=True, quality="off")
    query = {"collection": name}
    first = register(multi_model, name, "one", COLLINS.read_bytes())["identity_id"]
    second = register(multi_model, name, "two", brighter(COLLINS, 0.8))["identity_id"]
    correction = {"image": b64(brighter(COLLINS, 0.9))}
    assert multi_model.post(f"/identities/{second}/corrections", params=query, json=correction).status_code == 201
    assert (
        multi_model.post(f"/identities/{first}/merge", params=query, json={"identities": [second]}).status_code == 200
    )
    assert multi_model.get(f"/identities/{first}/corrections", params=query).json()["corrections"] == []
    crops = text("SELECT count(*) FROM crop p JOIN collection c ON c.id = p.collection_id WHERE c.name = :name")
    async with database.transaction(all_collections=True) as connection:
        assert (await connection.execute(crops, {"name": name})).scalar() == 2


def test_enrolling_a_photo_again_replaces_an_undecryptable_crop(
    multi_model: httpx.Client, multi_model_settings: Settings
) -> None:
    """A service with another key stored the crop."""
    other_key = CropSettings(key="another key for the crops, also long enough")
    other_settings = multi_model_settings.model_copy(update={"crops": other_key})
    name = create_collection(multi_model, store_crops=True)
    with serving(create_app(other_settings)) as other:
        register(other, name, "collins", COLLINS.read_bytes())
    start_migration(multi_model, name)
    state = wait_for_migration(multi_model, name, job_finished)
    assert state["job"]["counts"]["rejected"] == 1
    multi_model.delete(f"/collections/{name}/model-migration")
    register(multi_model, name, "collins", COLLINS.read_bytes())
    start_migration(multi_model, name)
    wait_for_migration(multi_model, name, lambda state: state["model_id"] == SECOND_MODEL)
    assert migration(multi_model, name)["coverage"]["missing"] == 0
