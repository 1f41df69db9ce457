"""Tests of /embed, of embeddings in place of pictures, of corrections, and of paged lists."""

import base64
import uuid
from typing import Any

import httpx
import numpy as np
import pytest

from tests.contract.enrolment import register
from tests.photos import BUS, COLLINS, HOPPER, b64, brighter

FACE, OTHER = COLLINS.read_bytes(), HOPPER.read_bytes()


def embed(client: httpx.Client, picture: bytes, **fields: Any) -> dict[str, Any]:
    response = client.post("/embed", json={"image": b64(picture), **fields})
    assert response.status_code == 200, response.text
    return response.json()


def vector(face: dict[str, Any]) -> np.ndarray:
    """Returns the (dim,) embedding of a face of /embed."""
    return np.frombuffer(base64.b64decode(face["embedding"]), "<f4")


def test_embedding_round_trip_gives_the_same_scores(client: httpx.Client, collection_name: str) -> None:
    result = embed(client, FACE)
    [face], model = result["faces"], result["model_id"]
    assert vector(face).shape == (result["dim"],)
    assert abs(float(np.linalg.norm(vector(face))) - 1) < 1e-5
    query = {"collection": collection_name}
    client.patch(f"/collections/{collection_name}", json={"quality": "off"})
    body = {"label": "collins", "embeddings": [face["embedding"]], "model_id": model}
    registered = client.post("/register", params=query, json=body).json()
    assert registered["images"][0]["status"] == "accepted"
    assert registered["images"][0]["face"] is None
    probe = brighter(COLLINS, 0.7)
    by_picture = client.post("/search", params=query, json={"image": b64(probe)}).json()["results"][0]
    by_embedding = client.post(
        "/search",
        params={"collection": collection_name},
        json={"embedding": vector(embed(client, probe)["faces"][0]).tolist(), "model_id": model},
    ).json()["results"][0]
    assert by_embedding["face"] is None
    assert by_picture["candidates"][0]["match"]
    assert abs(by_embedding["candidates"][0]["score"] - by_picture["candidates"][0]["score"]) < 1e-4
    sides = {"embedding_a": face["embedding"], "embedding_b": embed(client, OTHER)["faces"][0]["embedding"]}
    pair = client.post("/verify", params=query, json=sides | {"model_id": model}).json()
    assert (pair["match"], pair["face_a"], pair["face_b"]) == (False, None, None)
    mixed = client.post(
        "/verify",
        params={"collection": collection_name},
        json={"embedding_a": face["embedding"], "model_id": model, "external_id": "collins"},
    )
    assert mixed.json()["match"]
    repeated = client.post("/register", params=query, json=body).json()
    assert repeated["images"][0]["status"] == "duplicate"


def test_every_face_of_a_picture_is_embedded(client: httpx.Client) -> None:
    result = embed(client, BUS.read_bytes(), face="all")
    assert len(result["faces"]) == result["faces_detected"] >= 2
    refused = client.post("/embed", json={"image": b64(BUS.read_bytes()), "face": "only"})
    assert refused.json()["code"] == "several_faces"


@pytest.mark.parametrize("quality", ["standard", "strict"])
def test_quality_gate_refuses_embeddings_without_force(client: httpx.Client, quality: str) -> None:
    """The quality of a face that the service has not seen is unknown."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    client.post("/collections", json={"name": name, "quality": quality})
    result = embed(client, FACE)
    body = {"label": "x", "embeddings": [result["faces"][0]["embedding"]], "model_id": result["model_id"]}
    refused = client.post("/register", params={"collection": name}, json=body).json()
    assert (refused["code"], refused["reasons"]) == ("face_rejected", ["unseen"])
    assert client.post("/register", params={"collection": name}, json=body | {"force": True}).status_code == 201


def unit(dim: int) -> list[float]:
    return (np.ones(dim) / np.sqrt(dim)).tolist()


@pytest.mark.parametrize(
    ("embedding", "code"),
    [
        (unit(64), "invalid_embedding"),
        ([0.5] * 128, "invalid_embedding"),
        ([0.0] * 128, "invalid_embedding"),
        ([1e39] * 128, "invalid_request"),
        ([], "invalid_request"),
        (["a"] * 128, "invalid_request"),
        ("AAAA", "invalid_request"),
        (base64.b64encode(np.full(128, np.nan, "<f4").tobytes()).decode(), "invalid_embedding"),
        ("not base64!", "invalid_base64"),
        ({"a": 1}, "invalid_request"),
    ],
)
def test_invalid_embedding_is_refused(client: httpx.Client, embedding: object, code: str) -> None:
    model = client.get("/models").json()["models"][0]["id"]
    response = client.post("/search", json={"embedding": embedding, "model_id": model})
    assert (response.status_code, response.json()["code"]) == (422, code)


@pytest.mark.parametrize("model", [None, "another"])
def test_model_of_an_embedding_is_required(client: httpx.Client, model: str | None) -> None:
    body = {"embedding": unit(128)} | ({} if model is None else {"model_id": model})
    response = client.post("/search", json=body).json()
    assert (response["code"], response["pointer"]) == ("invalid_embedding", "/model_id")


@pytest.mark.parametrize("body", [{}, {"image": "x", "embedding": unit(128)}, {"images": [], "embedding": unit(128)}])
def test_search_requires_exactly_one_kind_of_probe(client: httpx.Client, body: dict[str, Any]) -> None:
    assert client.post("/search", json=body).status_code == 422


def test_correction_overrules_a_match(client: httpx.Client, collection_name: str) -> None:
    query = {"collection": collection_name}
    identity_id = register(client, collection_name, "Collins", FACE).json()["identity_id"]
    probe = brighter(COLLINS, 0.7)

    def best_candidate(picture: bytes) -> dict[str, Any]:
        response = client.post("/search", params=query, json={"image": b64(picture)})
        return response.json()["results"][0]["candidates"][0]

    candidate = best_candidate(probe)
    assert (candidate["match"], candidate["overruled_by_correction"]) == (True, False)
    address = f"/identities/{identity_id}/corrections"
    stored = client.post(address, params=query, json={"image": b64(probe)})
    assert stored.status_code == 201
    candidate = best_candidate(probe)
    assert (candidate["match"], candidate["overruled_by_correction"]) == (False, True)
    pair = client.post("/verify", params=query, json={"image_a": b64(probe), "identity_id": identity_id}).json()
    assert (pair["match"], pair["overruled_by_correction"]) == (False, True)
    enrolled = best_candidate(FACE)  # The enrolled picture is more similar to the identity than to the correction.
    assert (enrolled["match"], enrolled["overruled_by_correction"]) == (True, False)
    [listed] = client.get(address, params=query).json()["corrections"]
    assert listed["id"] == stored.json()["id"]
    assert client.delete(f"{address}/{listed['id']}", params=query).status_code == 204
    assert client.delete(f"{address}/{listed['id']}", params=query).json()["code"] == "correction_not_found"
    assert best_candidate(probe)["match"]


def test_merge_moves_corrections_and_erasure_deletes_them(client: httpx.Client, collection_name: str) -> None:
    query = {"collection": collection_name}
    first = register(client, collection_name, "Collins", FACE).json()["identity_id"]
    second = register(client, collection_name, "Hopper", OTHER).json()["identity_id"]
    third_person = {"image": b64(BUS.read_bytes()), "face": "largest"}
    client.post(f"/identities/{second}/corrections", params=query, json=third_person)
    client.post(f"/identities/{second}/corrections", params=query, json={"image": b64(brighter(COLLINS, 0.7))})
    client.post(f"/identities/{first}/merge", params=query, json={"identities": [second]})
    assert len(client.get(f"/identities/{first}/corrections", params=query).json()["corrections"]) == 1
    assert client.get(f"/identities/{first}/export", params=query).json()["corrections"][0]["model_id"]
    assert client.delete(f"/identities/{first}", params=query).json()["deleted"]["corrections"] == 1


def test_erasure_deletes_corrections_that_show_the_identity(client: httpx.Client, collection_name: str) -> None:
    query = {"collection": collection_name}
    first = register(client, collection_name, "Collins", FACE).json()["identity_id"]
    second = register(client, collection_name, "Hopper", OTHER).json()["identity_id"]
    address = f"/identities/{first}/corrections"
    client.post(address, params=query, json={"image": b64(brighter(HOPPER, 0.7))})
    assert client.delete(f"/identities/{second}", params=query).json()["deleted"]["corrections"] == 1
    assert client.get(address, params=query).json()["corrections"] == []


def test_collections_are_listed_in_pages(client: httpx.Client) -> None:
    prefix = f"page-{uuid.uuid4().hex[:6]}"
    names = [f"{prefix}-{number}" for number in range(5)]
    for name in names:
        client.post("/collections", json={"name": name})
    listed: list[str] = []
    query: dict[str, Any] = {"prefix": prefix, "limit": 2}
    while True:
        page = client.get("/collections", params=query).json()
        listed += [item["name"] for item in page["collections"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert listed == names
    assert client.get(f"/collections/{names[0]}").json()["identity_count"] == 0
    assert client.get("/collections/nowhere").json()["code"] == "collection_not_found"


def test_identities_are_filtered_by_metadata(client: httpx.Client, collection_name: str) -> None:
    register(client, collection_name, "a", FACE, metadata={"floor": 3})
    register(client, collection_name, "b", OTHER, metadata={"floor": 4})
    query = {"collection": collection_name}
    listed = client.get("/identities", params=query | {"filter": '{"floor": {"$gte": 4}}'}).json()["identities"]
    assert [identity["label"] for identity in listed] == ["b"]
    for invalid in ("[]", "{", '{"$bad": 1}'):
        assert client.get("/identities", params=query | {"filter": invalid}).json()["code"] == "invalid_filter"


def test_templates_are_listed_in_pages(client: httpx.Client, collection_name: str) -> None:
    pictures = [brighter(COLLINS, factor) for factor in (0.8, 0.9, 1.0)]
    identity_id = register(client, collection_name, "a", *pictures).json()["identity_id"]
    query: dict[str, Any] = {"collection": collection_name, "limit": 2}
    first = client.get(f"/identities/{identity_id}/templates", params=query).json()
    second = client.get(f"/identities/{identity_id}/templates", params=query | {"cursor": first["next_cursor"]}).json()
    ids = [item["id"] for page in (first, second) for item in page["templates"]]
    assert len(set(ids)) == 3
    assert second["next_cursor"] is None
