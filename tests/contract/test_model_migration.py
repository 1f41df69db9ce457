"""Tests of model migration, with models of 128 and 160 dimensions."""

import base64
import time
from pathlib import Path

import httpx
import numpy as np
import pytest
from sqlalchemy import text

from service.gallery.storage.database import Database
from tests.bundles import SECOND_EMBEDDER
from tests.contract.model_migration import (
    FIRST_MODEL,
    SAME_DIM_MODEL,
    SECOND_MODEL,
    UNCORRECTED_MODEL,
    best_candidate,
    create_collection,
    generate_pictures,
    job_finished,
    migration,
    register,
    search_for,
    start_migration,
    wait_for_migration,
)
from tests.photos import COLLINS, HOPPER, TRAINER, b64, brighter


@pytest.mark.anyio
async def test_templates_are_stored_under_both_models(multi_model: httpx.Client, database: Database) -> None:
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
    assert migration(multi_model, name)["model_id"] == FIRST_MODEL  # auto_activate is off.
    identities = multi_model.get("/identities", params={"collection": name}).json()["identities"]
    assert [identity["template_count"] for identity in identities] == [2, 1]


def test_identity_without_crops_is_missing_until_it_is_enrolled_again(multi_model: httpx.Client) -> None:
    name = create_collection(multi_model)
    photos = {"collins": COLLINS.read_bytes(), "hopper": HOPPER.read_bytes()}
    for label, picture in photos.items():
        register(multi_model, name, label, picture)
    address = start_migration(multi_model, name).headers["location"]
    state = wait_for_migration(multi_model, name, job_finished)
    assert state["job"]["counts"] == {"accepted": 0, "duplicate": 0, "rejected": 2, "failed": 0}
    path, _, query = address.partition("?")
    assert {row["code"] for row in multi_model.get(f"{path}/rows?{query}").json()["rows"]} == {"crops_missing"}
    assert (state["model_id"], state["coverage"]["missing"]) == (FIRST_MODEL, 2)
    missing = multi_model.get(f"/collections/{name}/model-migration/missing").json()["identities"]
    assert [identity["external_id"] for identity in missing] == ["collins", "hopper"]
    refused = multi_model.post(f"/collections/{name}/model-migration/activate", json={})
    assert (refused.status_code, refused.json()["code"], refused.json()["missing"]) == (409, "model_incomplete", 2)
    repeated = register(multi_model, name, "collins", photos["collins"])  # The same picture is sufficient.
    assert repeated["images"][0]["status"] == "duplicate"
    missing = multi_model.get(f"/collections/{name}/model-migration/missing").json()["identities"]
    assert [identity["external_id"] for identity in missing] == ["hopper"]
    register(multi_model, name, "hopper", brighter(HOPPER, 0.9))
    wait_for_migration(multi_model, name, lambda state: state["model_id"] == SECOND_MODEL)
    for label, picture in photos.items():
        candidate = best_candidate(search_for(multi_model, name, picture))
        assert (candidate["external_id"], candidate["match"]) == (label, True)


def test_force_activates_an_incomplete_model(multi_model: httpx.Client) -> None:
    name = create_collection(multi_model)
    register(multi_model, name, "collins", COLLINS.read_bytes())
    start_migration(multi_model, name, auto_activate=False)
    wait_for_migration(multi_model, name, job_finished)
    changed = multi_model.post(f"/collections/{name}/model-migration/activate", json={"force": True})
    assert (changed.status_code, changed.json()["model_id"]) == (200, SECOND_MODEL)
    assert search_for(multi_model, name, COLLINS.read_bytes())["results"][0]["candidates"] == []
    # The secondary model is the only one with a template of this identity.
    refused = multi_model.delete(f"/collections/{name}/model-migration")
    assert (refused.status_code, refused.json()["code"], refused.json()["missing"]) == (409, "model_incomplete", 1)
    restored = multi_model.post(f"/collections/{name}/model-migration/activate", json={})
    assert (restored.status_code, restored.json()["model_id"]) == (200, FIRST_MODEL)
    assert best_candidate(search_for(multi_model, name, COLLINS.read_bytes()))["match"]


def test_corrections_are_migrated(multi_model: httpx.Client) -> None:
    name = create_collection(multi_model, store_crops=True, quality="off")
    identity_id = register(multi_model, name, "hopper", HOPPER.read_bytes())["identity_id"]
    enrolled_before = {"image": b64(COLLINS.read_bytes())}
    path = f"/identities/{identity_id}/corrections"
    assert multi_model.post(path, params={"collection": name}, json=enrolled_before).status_code == 201
    start_migration(multi_model, name)
    wait_for_migration(multi_model, name, lambda state: state["model_id"] == SECOND_MODEL)
    enrolled_after = {"image": b64(TRAINER.read_bytes())}
    assert multi_model.post(path, params={"collection": name}, json=enrolled_after).status_code == 201
    listed = multi_model.get(path, params={"collection": name}).json()["corrections"]
    assert [correction["model_id"] for correction in listed] == [SECOND_MODEL, SECOND_MODEL]
    for picture in (COLLINS, TRAINER):
        candidate = best_candidate(search_for(multi_model, name, picture.read_bytes(), threshold=-1))
        assert (candidate["overruled_by_correction"], candidate["match"]) == (True, False)
    for correction in listed:
        assert multi_model.delete(f"{path}/{correction['id']}", params={"collection": name}).status_code == 204
    multi_model.post(f"/collections/{name}/model-migration/activate", json={"force": True})
    assert multi_model.get(path, params={"collection": name}).json()["corrections"] == []  # Deleted under both models.


def test_correction_without_a_crop_prevents_activation(multi_model: httpx.Client) -> None:
    name = create_collection(multi_model, quality="off")
    identity_id = register(multi_model, name, "hopper", HOPPER.read_bytes())["identity_id"]
    path = f"/identities/{identity_id}/corrections"
    correction = multi_model.post(path, params={"collection": name}, json={"image": b64(COLLINS.read_bytes())}).json()
    start_migration(multi_model, name)
    register(multi_model, name, "hopper", HOPPER.read_bytes())
    state = wait_for_migration(
        multi_model, name, lambda state: job_finished(state) and state["coverage"]["missing"] == 0
    )
    assert (state["model_id"], state["coverage"]["corrections_missing"]) == (FIRST_MODEL, 1)
    multi_model.delete(f"{path}/{correction['id']}", params={"collection": name})
    wait_for_migration(multi_model, name, lambda state: state["model_id"] == SECOND_MODEL)


def test_embedding_of_another_model_of_the_same_dimension_is_refused(multi_model: httpx.Client) -> None:
    """Only the model id distinguishes these embeddings."""
    name = create_collection(multi_model, model_id=SAME_DIM_MODEL, quality="off")
    embeddings = {}
    for model_id in (FIRST_MODEL, SAME_DIM_MODEL):
        response = multi_model.post("/embed", json={"image": b64(COLLINS.read_bytes()), "model_id": model_id}).json()
        assert (response["model_id"], response["dim"]) == (model_id, 128)
        embeddings[model_id] = response["faces"][0]["embedding"]
    vectors = [np.frombuffer(base64.b64decode(embedding), "<f4") for embedding in embeddings.values()]
    assert abs(float(vectors[0] @ vectors[1])) < 0.5
    body = {"label": "collins", "embeddings": [embeddings[FIRST_MODEL]], "model_id": FIRST_MODEL}
    refused = multi_model.post("/register", params={"collection": name}, json=body)
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_embedding")
    body |= {"embeddings": [embeddings[SAME_DIM_MODEL]], "model_id": SAME_DIM_MODEL}
    assert multi_model.post("/register", params={"collection": name}, json=body).status_code == 201
    search = search_for(multi_model, name, COLLINS.read_bytes())
    assert (search["model_id"], round(best_candidate(search)["score"], 3)) == (SAME_DIM_MODEL, 1.0)
    pair = {"embedding_a": embeddings[SAME_DIM_MODEL], "image_b": b64(brighter(COLLINS, 0.8)), "fmr": 1e-3}
    pair |= {"model_id": SAME_DIM_MODEL}
    verified = multi_model.post("/verify", json=pair).json()
    assert (verified["model_id"], verified["match"]) == (SAME_DIM_MODEL, True)
    refused = multi_model.post("/verify", params={"collection": "default"}, json=pair | {"fmr": None})
    assert (refused.status_code, refused.json()["code"]) == (422, "invalid_embedding")


def test_invalid_migrations_are_refused(multi_model: httpx.Client, client: httpx.Client) -> None:
    name = create_collection(multi_model)

    def code(response: httpx.Response) -> tuple[int, str]:
        return response.status_code, response.json()["code"]

    assert code(start_migration(multi_model, name, "unknown-model")) == (409, "model_not_loaded")
    assert code(start_migration(multi_model, name, FIRST_MODEL)) == (409, "conflict")
    assert code(multi_model.post(f"/collections/{name}/model-migration/activate", json={})) == (409, "conflict")
    assert code(multi_model.delete(f"/collections/{name}/model-migration")) == (409, "conflict")
    assert code(start_migration(multi_model, "no-such-collection")) == (404, "collection_not_found")
    assert start_migration(multi_model, name, auto_activate=False).status_code == 202
    assert code(start_migration(multi_model, name, SAME_DIM_MODEL)) == (409, "conflict")
    assert migration(multi_model, name)["secondary_model_id"] == SECOND_MODEL
    # The service of `client` uses the same database with one model and without a key for crops.
    assert code(client.post("/collections", json={"name": "x", "store_crops": True})) == (409, "crops_unavailable")
    wait_for_migration(multi_model, name, job_finished)
    register(client, name, "hopper", HOPPER.read_bytes())
    assert migration(multi_model, name)["coverage"]["missing"] == 1
    assert multi_model.post(f"/collections/{name}/model-migration/activate", json={"force": True}).status_code == 200
    refused = client.post("/search", params={"collection": name}, json={"image": b64(HOPPER.read_bytes())})
    assert code(refused) == (409, "model_not_loaded")
    with_fmr = create_collection(multi_model, fmr=1e-3)
    assert start_migration(multi_model, with_fmr).status_code == 202


def test_repeated_migration_starts_another_job_for_missing_templates(multi_model: httpx.Client) -> None:
    name = create_collection(multi_model, store_crops=True)
    register(multi_model, name, "collins", COLLINS.read_bytes())
    multi_model.patch(f"/collections/{name}", json={"store_crops": False})
    multi_model.patch(f"/collections/{name}", json={"store_crops": True})
    register(multi_model, name, "collins", brighter(COLLINS, 0.7))
    start_migration(multi_model, name, auto_activate=False)
    state = wait_for_migration(multi_model, name, job_finished)
    assert state["job"]["counts"]["accepted"] == 1
    assert (state["coverage"]["missing"], state["coverage"]["partial"]) == (0, 1)
    first_job = state["job"]["id"]
    assert start_migration(multi_model, name, auto_activate=False).status_code == 202
    state = wait_for_migration(multi_model, name, lambda state: job_finished(state) and state["job"]["id"] != first_job)
    assert state["job"]["counts"]["rejected"] == 1  # Its crop is still missing.
    register(multi_model, name, "collins", COLLINS.read_bytes())
    assert migration(multi_model, name)["coverage"]["partial"] == 0


def test_job_fails_if_its_migration_is_cancelled(multi_model: httpx.Client) -> None:
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
    assert "is no longer the secondary model" in job["problem"]


def test_bundles_with_equal_model_ids_are_refused(tmp_path: Path) -> None:
    from service.errors import StartupError
    from service.runtime.parts import _read_bundles

    with pytest.raises(StartupError, match="same model id"):
        _read_bundles([SECOND_EMBEDDER, SECOND_EMBEDDER])


def test_a_model_with_a_cohort_needs_no_crops_of_the_model_without_it(multi_model: httpx.Client) -> None:
    """Stored embeddings of templates and corrections are corrected; the result is that of an enrolment."""
    names = [create_collection(multi_model, model_id=model) for model in (UNCORRECTED_MODEL, FIRST_MODEL)]
    for name in names:
        enrolled = register(multi_model, name, "collins", COLLINS.read_bytes(), brighter(COLLINS, 0.8))
        register(multi_model, name, "hopper", HOPPER.read_bytes())
        path = f"/identities/{enrolled['identity_id']}/corrections"
        correction = multi_model.post(path, params={"collection": name}, json={"image": b64(HOPPER.read_bytes())})
        assert correction.status_code == 201, correction.text
    migrated = names[0]
    assert start_migration(multi_model, migrated, FIRST_MODEL).is_success
    state = wait_for_migration(multi_model, migrated, lambda state: state["model_id"] == FIRST_MODEL)
    assert state["coverage"] == {"identities": 2, "missing": 0, "partial": 0, "corrections_missing": 0}
    for picture in (COLLINS, HOPPER):
        results = [search_for(multi_model, name, picture.read_bytes())["results"][0] for name in names]
        first, second = ([_compared(item) for item in result["candidates"]] for result in results)
        assert first == second
    assert [item["overruled_by_correction"] for item in results[0]["candidates"]] == [False, True]


def _compared(candidate: dict[str, object]) -> dict[str, object]:
    keys = ("label", "score", "threshold", "match", "overruled_by_correction")
    return {key: pytest.approx(candidate[key], abs=1e-5) if key == "score" else candidate[key] for key in keys}
