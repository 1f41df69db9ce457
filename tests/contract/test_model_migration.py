"""Tests of model migration, with models of 128 and 160 dimensions."""

import base64
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from sqlalchemy import text

from service.gallery.storage.database import Database
from tests.bundles import SECOND
from tests.contract.model_migration import (
    FIRST_MODEL,
    SAME_DIM_MODEL,
    SECOND_MODEL,
    best_candidate,
    create_collection,
    job_finished,
    migration,
    register,
    search_for,
    start_migration,
)
from tests.photos import COLLINS, HOPPER, TRAINER, b64, brighter


@pytest.mark.anyio
async def test_rows_are_of_one_model_each(multi_model: httpx.Client, database: Database) -> None:
    name = create_collection(multi_model, store_crops=True)
    register(multi_model, name, "collins", COLLINS.read_bytes(), brighter(COLLINS, 0.8))
    start_migration(multi_model, name, auto_activate=False)
    wait_for_migration(multi_model, name, job_finished)
    register(multi_model, name, "hopper", HOPPER.read_bytes())
    query = text(
        "SELECT t.model_id, t.dim, vector_dims(t.embedding), count(*) FROM template t JOIN collection c "
        "ON c.id = t.collection_id WHERE c.name = :name GROUP BY 1, 2, 3 ORDER BY 2"
    )
    async with database.transaction(all_collections=True) as connection:
        rows = [tuple(row) for row in await connection.execute(query, {"name": name})]
    assert rows == [(FIRST_MODEL, 128, 128, 3), (SECOND_MODEL, 160, 160, 3)]
    assert migration(multi_model, name)["model_id"] == FIRST_MODEL  # nobody asked for more
    found = multi_model.get("/identities", params={"collection": name}).json()["identities"]
    assert [one["template_count"] for one in found] == [2, 1]


def test_who_has_no_crop_needs_a_new_photo(multi_model: httpx.Client) -> None:
    name = create_collection(multi_model)
    photos = {"collins": COLLINS.read_bytes(), "hopper": HOPPER.read_bytes()}
    for label, picture in photos.items():
        register(multi_model, name, label, picture)
    address = start_migration(multi_model, name).headers["location"]
    view = wait_for_migration(multi_model, name, job_finished)
    assert view["job"]["counts"] == {"accepted": 0, "duplicate": 0, "rejected": 2, "failed": 0}
    path, _, query = address.partition("?")
    assert {row["code"] for row in multi_model.get(f"{path}/rows?{query}").json()["rows"]} == {"crops_missing"}
    assert (view["model_id"], view["coverage"]["missing"]) == (FIRST_MODEL, 2)
    listed = multi_model.get(f"/collections/{name}/model-migration/missing").json()["people"]
    assert [one["external_id"] for one in listed] == ["collins", "hopper"]
    refused = multi_model.post(f"/collections/{name}/model-migration/activate", json={})
    assert (refused.status_code, refused.json()["code"], refused.json()["missing"]) == (409, "model_incomplete", 2)
    again = register(multi_model, name, "collins", photos["collins"])  # the same picture does as well
    assert again["images"][0]["status"] == "duplicate"
    listed = multi_model.get(f"/collections/{name}/model-migration/missing").json()["people"]
    assert [one["external_id"] for one in listed] == ["hopper"]
    register(multi_model, name, "hopper", brighter(HOPPER, 0.9))
    wait_for_migration(multi_model, name, lambda view: view["model_id"] == SECOND_MODEL)  # by itself
    for label, picture in photos.items():
        found = best_candidate(search_for(multi_model, name, picture))
        assert (found["external_id"], found["match"]) == (label, True)


def test_people_may_be_left_behind_on_purpose(multi_model: httpx.Client) -> None:
    name = create_collection(multi_model)
    register(multi_model, name, "collins", COLLINS.read_bytes())
    start_migration(multi_model, name, auto_activate=False)
    wait_for_migration(multi_model, name, job_finished)
    changed = multi_model.post(f"/collections/{name}/model-migration/activate", json={"force": True})
    assert (changed.status_code, changed.json()["model_id"]) == (200, SECOND_MODEL)
    assert search_for(multi_model, name, COLLINS.read_bytes())["results"][0]["candidates"] == []
    refused = multi_model.delete(f"/collections/{name}/model-migration")  # the only one that knows somebody
    assert (refused.status_code, refused.json()["code"], refused.json()["missing"]) == (409, "model_incomplete", 1)
    back = multi_model.post(f"/collections/{name}/model-migration/activate", json={})
    assert (back.status_code, back.json()["model_id"]) == (200, FIRST_MODEL)
    assert best_candidate(search_for(multi_model, name, COLLINS.read_bytes()))["match"]


def test_corrections_are_respected_by_the_other_model(multi_model: httpx.Client) -> None:
    name = create_collection(multi_model, store_crops=True, quality="off")
    person = register(multi_model, name, "hopper", HOPPER.read_bytes())["identity_id"]
    wrong = {"image": b64(COLLINS.read_bytes())}
    path = f"/identities/{person}/corrections"
    assert multi_model.post(path, params={"collection": name}, json=wrong).status_code == 201
    start_migration(multi_model, name)
    wait_for_migration(multi_model, name, lambda view: view["model_id"] == SECOND_MODEL)
    later = {"image": b64(TRAINER.read_bytes())}
    assert multi_model.post(path, params={"collection": name}, json=later).status_code == 201
    listed = multi_model.get(path, params={"collection": name}).json()["corrections"]
    assert [one["model_id"] for one in listed] == [SECOND_MODEL, SECOND_MODEL]
    for picture in (COLLINS, TRAINER):
        found = best_candidate(search_for(multi_model, name, picture.read_bytes(), threshold=-1))
        assert (found["overruled_by_correction"], found["match"]) == (True, False)
    for one in listed:
        assert multi_model.delete(f"{path}/{one['id']}", params={"collection": name}).status_code == 204
    multi_model.post(f"/collections/{name}/model-migration/activate", json={"force": True})
    assert multi_model.get(path, params={"collection": name}).json()["corrections"] == []  # under either model


def test_a_correction_without_a_crop_keeps_the_model_from_changing(multi_model: httpx.Client) -> None:
    name = create_collection(multi_model, quality="off")
    person = register(multi_model, name, "hopper", HOPPER.read_bytes())["identity_id"]
    path = f"/identities/{person}/corrections"
    made = multi_model.post(path, params={"collection": name}, json={"image": b64(COLLINS.read_bytes())}).json()
    start_migration(multi_model, name)
    register(multi_model, name, "hopper", HOPPER.read_bytes())
    view = wait_for_migration(multi_model, name, lambda view: job_finished(view) and view["coverage"]["missing"] == 0)
    assert (view["model_id"], view["coverage"]["corrections_missing"]) == (FIRST_MODEL, 1)
    multi_model.delete(f"{path}/{made['id']}", params={"collection": name})
    wait_for_migration(multi_model, name, lambda view: view["model_id"] == SECOND_MODEL)


def test_models_of_one_dimension_are_not_mixed_up(multi_model: httpx.Client) -> None:
    """Nothing but the model's name tells these embeddings apart."""
    name = create_collection(multi_model, model_id=SAME_DIM_MODEL, quality="off")
    made = {}
    for model_id in (FIRST_MODEL, SAME_DIM_MODEL):
        response = multi_model.post("/embed", json={"image": b64(COLLINS.read_bytes()), "model_id": model_id}).json()
        assert (response["model_id"], response["dim"]) == (model_id, 128)
        made[model_id] = response["faces"][0]["embedding"]
    vectors = [np.frombuffer(base64.b64decode(one), "<f4") for one in made.values()]
    assert abs(float(vectors[0] @ vectors[1])) < 0.5
    body = {"label": "collins", "embeddings": [made[FIRST_MODEL]], "model_id": FIRST_MODEL}
    refused = multi_model.post("/register", params={"collection": name}, json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_embedding")
    body |= {"embeddings": [made[SAME_DIM_MODEL]], "model_id": SAME_DIM_MODEL}
    assert multi_model.post("/register", params={"collection": name}, json=body).status_code == 201
    found = search_for(multi_model, name, COLLINS.read_bytes())
    assert (found["model_id"], round(best_candidate(found)["score"], 3)) == (SAME_DIM_MODEL, 1.0)
    mixed = {"embedding_a": made[SAME_DIM_MODEL], "image_b": b64(brighter(COLLINS, 0.8)), "fmr": 1e-3}
    verified = multi_model.post("/verify", json={**mixed, "model_id": SAME_DIM_MODEL}).json()
    assert (verified["model_id"], verified["match"]) == (SAME_DIM_MODEL, True)
    refused = multi_model.post("/verify", params={"collection": "default"}, json={**mixed, "model_id": SAME_DIM_MODEL, "fmr": None})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_embedding")


def test_what_can_not_be_changed_is_said(multi_model: httpx.Client, client: httpx.Client) -> None:
    name = create_collection(multi_model)

    def code(response: httpx.Response) -> tuple[int, str]:
        return response.status_code, response.json()["code"]

    assert code(start_migration(multi_model, name, "nobody's")) == (409, "model_not_loaded")
    assert code(start_migration(multi_model, name, FIRST_MODEL)) == (409, "conflict")
    assert code(multi_model.post(f"/collections/{name}/model-migration/activate", json={})) == (409, "conflict")
    assert code(multi_model.delete(f"/collections/{name}/model-migration")) == (409, "conflict")
    assert code(start_migration(multi_model, "no-such-collection")) == (404, "collection_not_found")
    assert start_migration(multi_model, name, auto_activate=False).status_code == 202
    assert code(start_migration(multi_model, name, SAME_DIM_MODEL)) == (409, "conflict")
    assert migration(multi_model, name)["secondary_model_id"] == SECOND_MODEL
    # The other service on this database runs one model only, and has no key for crops.
    assert code(client.post("/collections", json={"name": "x", "store_crops": True})) == (409, "crops_unavailable")
    wait_for_migration(multi_model, name, job_finished)
    register(client, name, "hopper", HOPPER.read_bytes())
    assert migration(multi_model, name)["coverage"]["missing"] == 1
    assert multi_model.post(f"/collections/{name}/model-migration/activate", json={"force": True}).status_code == 200
    refused = client.post("/search", params={"collection": name}, json={"image": b64(HOPPER.read_bytes())})
    assert code(refused) == (409, "model_not_loaded")
    strict = create_collection(multi_model, fmr=1e-3)
    assert start_migration(multi_model, strict).status_code == 202


def test_a_re_embedding_is_sent_again_for_what_it_could_not_do(multi_model: httpx.Client) -> None:
    name = create_collection(multi_model, store_crops=True)
    register(multi_model, name, "collins", COLLINS.read_bytes())
    multi_model.patch(f"/collections/{name}", json={"store_crops": False})
    multi_model.patch(f"/collections/{name}", json={"store_crops": True})
    register(multi_model, name, "collins", brighter(COLLINS, 0.7))
    start_migration(multi_model, name, auto_activate=False)
    view = wait_for_migration(multi_model, name, job_finished)
    assert view["job"]["counts"]["accepted"] == 1
    assert (view["coverage"]["missing"], view["coverage"]["partial"]) == (0, 1)
    first = view["job"]["id"]
    assert start_migration(multi_model, name, auto_activate=False).status_code == 202
    view = wait_for_migration(multi_model, name, lambda view: job_finished(view) and view["job"]["id"] != first)
    assert view["job"]["counts"]["rejected"] == 1  # nothing new could be made of it
    register(multi_model, name, "collins", COLLINS.read_bytes())
    assert migration(multi_model, name)["coverage"]["partial"] == 0


def test_a_job_whose_model_was_dropped_ends(multi_model: httpx.Client) -> None:
    name = create_collection(multi_model, store_crops=True)
    for label, picture in generate_pictures(12).items():
        register(multi_model, name, label, picture)
    address = start_migration(multi_model, name).headers["location"]
    multi_model.delete(f"/collections/{name}/model-migration")
    deadline = time.monotonic() + 30
    while (job := multi_model.get(address).json())["finished_at"] is None:
        assert time.monotonic() < deadline, job
        time.sleep(0.1)
    assert job["state"] == "failed"
    assert "does not stand by any more" in job["problem"]


def test_bundles_of_one_id_are_refused(tmp_path: Path) -> None:
    from service.errors import StartupError
    from service.runtime.parts import _read_bundles

    with pytest.raises(StartupError, match="same model id"):
        _read_bundles([SECOND, SECOND])
