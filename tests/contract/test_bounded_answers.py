"""Limits of faces, candidates, bytes of a response, and templates of an identity."""

import httpx
import numpy as np
import pytest

from service.gallery.people import identities
from service.gallery.people.collections import Collection
from service.gallery.people.pruning import most_representative
from service.gallery.storage.database import Database
from service.runtime.api import create_app
from service.runtime.settings import Settings
from tests.conftest import serving
from tests.contract.enrolment import FACE, create_collection, register
from tests.gallery_rows import unit
from tests.photos import COLLINS, HOPPER, b64, brighter, encoded, pixels


def collage(columns: int, rows: int) -> bytes:
    """Returns a picture of columns times rows copies of a face."""
    return encoded(np.tile(pixels(HOPPER)[60:400, 120:420], (rows, columns, 1)), quality=80)


@pytest.fixture(scope="module")
def limited(settings: Settings) -> "object":
    limits = settings.limits.model_copy(
        update={"max_faces": 4, "max_candidates": 20, "max_response_bytes": 30_000, "max_body_bytes": 8 * 1024**2}
    )
    recognition = settings.recognition.model_copy(update={"max_templates": 3})
    with serving(create_app(settings.model_copy(update={"limits": limits, "recognition": recognition}))) as client:
        yield client


def test_a_picture_with_too_many_faces_is_refused(limited: httpx.Client) -> None:
    name = create_collection(limited)
    register(limited, name, "collins", FACE)
    refused = limited.post(
        "/search", params={"collection": name}, json={"image": b64(collage(3, 2)), "face": "all", "top_k": 1}
    )
    assert (refused.status_code, refused.json()["code"]) == (422, "too_many_faces")
    assert "at most 4" in refused.json()["detail"]
    accepted = limited.post(
        "/search", params={"collection": name}, json={"image": b64(collage(2, 2)), "face": "all", "top_k": 1}
    )
    assert accepted.status_code == 200
    assert 1 <= len(accepted.json()["results"]) <= 4


def test_faces_times_top_k_are_limited(limited: httpx.Client) -> None:
    name = create_collection(limited)
    body = {"image": b64(FACE), "top_k": 20}
    assert limited.post("/search", params={"collection": name}, json=body).status_code == 200
    refused = limited.post("/search", params={"collection": name}, json=body | {"top_k": 21})
    assert (refused.status_code, refused.json()["code"]) == (422, "response_too_large")
    assert refused.json()["pointer"] == "/top_k"


def test_bytes_of_a_response_are_limited_and_fields_omit_the_metadata(limited: httpx.Client) -> None:
    name, query = create_collection(limited), {}
    for number in range(3):
        metadata = {"text": "x" * 12_000}
        assert register(limited, name, f"p{number}", brighter(COLLINS, 0.8 + number / 10), metadata=metadata).is_success
    query = {"collection": name}
    search = {"image": b64(FACE)}
    for refused in (limited.post("/search", params=query, json=search), limited.get("/identities", params=query)):
        assert (refused.status_code, refused.json()["code"]) == (422, "response_too_large")
        assert "fields=label" in refused.json()["detail"]
    answer = limited.post("/search", params=query, json=search | {"fields": ["label"]}).json()
    assert [candidate["metadata"] for candidate in answer["results"][0]["candidates"]] == [None] * 3
    listed = limited.get("/identities", params=query | {"fields": "label"}).json()["identities"]
    assert [(item["label"], item["metadata"]) for item in listed] == [(f"p{number}", None) for number in range(3)]
    form = limited.post(
        "/search", params=query, data={"fields": '["label"]'}, files={"image": FACE}
    )  # JSON text in a form
    assert form.status_code == 200, form.text


def test_an_identity_keeps_its_most_representative_templates(limited: httpx.Client) -> None:
    name = create_collection(limited)
    photos = [brighter(COLLINS, factor) for factor in (0.6, 0.8, 1.0, 1.1, 1.2)]
    counts = [register(limited, name, "collins", photo).json()["template_count"] for photo in photos]
    assert counts == [1, 2, 3, 3, 3]
    body = register(limited, name, "collins", brighter(COLLINS, 1.05)).json()
    assert body["template_count"] == 3
    statuses = {"accepted"} if body["images"][0]["code"] is None else {"rejected"}
    assert {body["images"][0]["status"]} == statuses
    path = f"/identities/{body['identity_id']}"
    assert len(limited.get(f"{path}/templates", params={"collection": name}).json()["templates"]) == 3


def test_identity_with_too_many_templates_is_undecided_and_does_not_fail_the_search(
    client: httpx.Client, collection_name: str
) -> None:
    """The FMR of 1e-4 is not calibrated for an identity with 101 templates."""
    query = {"collection": collection_name}
    vectors = unit(np.random.default_rng(0), 60, dim=128)
    embed = client.post("/embed", params=query, json={"image": b64(FACE)}).json()
    model_id = embed["model_id"]
    first = np.frombuffer(__import__("base64").b64decode(embed["faces"][0]["embedding"]), "<f4")
    noisy = first + 0.05 * vectors
    noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    for start in range(0, 60, 30):
        part = [row.tolist() for row in noisy[start : start + 30]]
        body = {"label": "many", "embeddings": part, "model_id": model_id, "force": True}
        assert client.post("/register", params=query, json=body).is_success
    register(client, collection_name, "hopper", HOPPER.read_bytes())
    answer = client.post("/search", params=query, json={"image": b64(FACE), "fmr": 2e-6})
    assert answer.status_code == 200, answer.text
    many, other = answer.json()["results"][0]["candidates"]
    assert (many["label"], many["match"], many["threshold"]) == ("many", False, None)
    assert "templates" in many["undecided"]
    assert other["undecided"] is None


def test_most_representative_templates_are_diverse_and_of_high_quality() -> None:
    """Worked example: two pairs of near duplicates and one single template; three are kept."""
    angles = np.radians([0, 1, 60, 61, 120])
    embeddings = np.stack([np.cos(angles), np.sin(angles)], axis=1).astype(np.float32)
    assert most_representative(embeddings, [0.9, 0.5, 0.2, 0.8, 0.1], 3) == [0, 3, 4]
    assert most_representative(embeddings, [0.5] * 5, 3) == [0, 2, 4]
    assert most_representative(embeddings, [0.5] * 5, 5) == [0, 1, 2, 3, 4]


@pytest.mark.anyio
async def test_expired_identity_is_invisible_before_it_is_erased(database: Database, collection: Collection) -> None:
    from sqlalchemy import text

    from service.errors import IdentityNotFound
    from tests.gallery_rows import enrol, nearest_to

    probe = unit(np.random.default_rng(1), 1)
    identity_id = await enrol(database, collection, "gone", probe)
    async with database.transaction(collection_id=collection.id) as connection:
        assert len((await nearest_to(connection, collection.id, probe[0], 5)).candidates) == 1
        await connection.execute(
            text("UPDATE identity SET retain_until = now() - interval '1 second' WHERE id = :id"), {"id": identity_id}
        )
        assert (await nearest_to(connection, collection.id, probe[0], 5)).candidates == []
        assert await identities.page(connection, collection.id, 10) == []
        with pytest.raises(IdentityNotFound):
            await identities.get(connection, collection.id, identity_id)
        with pytest.raises(IdentityNotFound):
            await identities.change(connection, collection.id, identity_id, retain_until=None)
        assert await identities.lock_all(connection, collection.id, [identity_id]) == set()
