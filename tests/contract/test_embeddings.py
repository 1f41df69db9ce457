"""Embeddings out, and in the place of pictures."""

import base64
import uuid
from typing import Any

import httpx
import numpy as np
import pytest

from tests.contract.test_operations import register
from tests.photos import BUS, COLLINS, HOPPER, b64, brighter

FACE, OTHER = COLLINS.read_bytes(), HOPPER.read_bytes()


def embedded(client: httpx.Client, picture: bytes, **fields: Any) -> dict[str, Any]:
    answer = client.post("/embed", json={"image": b64(picture), **fields})
    assert answer.status_code == 200, answer.text
    return answer.json()


def vector(face: dict[str, Any]) -> np.ndarray:
    return np.frombuffer(base64.b64decode(face["embedding"]), "<f4")


def test_what_comes_out_goes_in_and_means_the_same(client: httpx.Client, collection_name: str) -> None:
    told = embedded(client, FACE)
    [face], model = told["faces"], told["model_id"]
    assert vector(face).shape == (told["dim"],)
    assert abs(float(np.linalg.norm(vector(face))) - 1) < 1e-5
    query = {"collection": collection_name}
    client.patch(f"/collections/{collection_name}", json={"quality": "off"})
    body = {"label": "collins", "embeddings": [face["embedding"]], "model_id": model}
    made = client.post("/register", params=query, json=body).json()
    assert made["images"][0]["status"] == "accepted"
    assert made["images"][0]["face"] is None
    probe = brighter(COLLINS, 0.7)
    by_picture = client.post("/search", params=query, json={"image": b64(probe)}).json()["results"][0]
    by_embedding = client.post(
        "/search",
        params={"collection": collection_name},
        json={"embedding": vector(embedded(client, probe)["faces"][0]).tolist(), "model_id": model},
    ).json()["results"][0]
    assert by_embedding["face"] is None
    assert by_picture["candidates"][0]["match"]
    assert abs(by_embedding["candidates"][0]["score"] - by_picture["candidates"][0]["score"]) < 1e-4
    sides = {"embedding_a": face["embedding"], "embedding_b": embedded(client, OTHER)["faces"][0]["embedding"]}
    pair = client.post("/verify", params=query, json=sides | {"model_id": model}).json()
    assert (pair["match"], pair["face_a"], pair["face_b"]) == (False, None, None)
    mixed = client.post(
        "/verify",
        params={"collection": collection_name},
        json={"embedding_a": face["embedding"], "model_id": model, "external_id": "collins"},
    )
    assert mixed.json()["match"]
    again = client.post("/register", params=query, json=body).json()
    assert again["images"][0]["status"] == "duplicate"


def test_every_face_of_a_picture(client: httpx.Client) -> None:
    told = embedded(client, BUS.read_bytes(), face="all")
    assert len(told["faces"]) == told["faces_found"] >= 2
    nothing = client.post("/embed", json={"image": b64(BUS.read_bytes()), "face": "only"})
    assert nothing.json()["code"] == "several_faces"


@pytest.mark.parametrize("quality", ["standard", "strict"])
def test_a_gate_that_can_not_look_refuses(client: httpx.Client, quality: str) -> None:
    name = f"test-{uuid.uuid4().hex[:12]}"
    client.post("/collections", json={"name": name, "quality": quality})
    told = embedded(client, FACE)
    body = {
        "label": "x", "embeddings": [told["faces"][0]["embedding"]], "model_id": told["model_id"]
    }  # fmt: skip
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
def test_what_is_no_embedding_of_the_model_is_refused(client: httpx.Client, embedding: object, code: str) -> None:
    model = client.get("/models").json()["models"][0]["id"]
    answer = client.post("/search", json={"embedding": embedding, "model_id": model})
    assert (answer.status_code, answer.json()["code"]) == (422, code)


@pytest.mark.parametrize("model", [None, "another"])
def test_the_model_must_be_named(client: httpx.Client, model: str | None) -> None:
    body = {"embedding": unit(128)} | ({} if model is None else {"model_id": model})
    answer = client.post("/search", json=body).json()
    assert (answer["code"], answer["pointer"]) == ("invalid_embedding", "/model_id")


@pytest.mark.parametrize("body", [{}, {"image": "x", "embedding": unit(128)}, {"images": [], "embedding": unit(128)}])
def test_one_probe_is_one_probe(client: httpx.Client, body: dict[str, Any]) -> None:
    assert client.post("/search", json=body).status_code == 422


def test_a_correction_is_respected(client: httpx.Client, collection_name: str) -> None:
    query = {"collection": collection_name}
    made = register(client, collection_name, "Collins", FACE).json()["identity_id"]
    probe = brighter(COLLINS, 0.7)
    found = client.post("/search", params=query, json={"image": b64(probe)}).json()["results"][0]["candidates"][0]
    assert (found["match"], found["overruled_by_correction"]) == (True, False)
    address = f"/identities/{made}/corrections"
    kept = client.post(address, params=query, json={"image": b64(probe)})
    assert kept.status_code == 201
    found = client.post("/search", params=query, json={"image": b64(probe)}).json()["results"][0]["candidates"][0]
    assert (found["match"], found["overruled_by_correction"]) == (False, True)
    pair = client.post("/verify", params=query, json={"image_a": b64(probe), "identity_id": made}).json()
    assert (pair["match"], pair["overruled_by_correction"]) == (False, True)
    same = client.post("/search", params=query, json={"image": b64(FACE)}).json()["results"][0]["candidates"][0]
    assert (same["match"], same["overruled_by_correction"]) == (True, False), (
        "the enrolled picture itself is nearer to the person"
    )
    [listed] = client.get(address, params=query).json()["corrections"]
    assert listed["id"] == kept.json()["id"]
    assert client.delete(f"{address}/{listed['id']}", params=query).status_code == 204
    assert client.delete(f"{address}/{listed['id']}", params=query).json()["code"] == "correction_not_found"
    found = client.post("/search", params=query, json={"image": b64(probe)}).json()["results"][0]["candidates"][0]
    assert found["match"]


def test_corrections_go_with_the_person(client: httpx.Client, collection_name: str) -> None:
    query = {"collection": collection_name}
    first = register(client, collection_name, "Collins", FACE).json()["identity_id"]
    second = register(client, collection_name, "Hopper", OTHER).json()["identity_id"]
    third = {"image": b64(BUS.read_bytes()), "face": "largest"}
    client.post(f"/identities/{second}/corrections", params=query, json=third)
    client.post(f"/identities/{second}/corrections", params=query, json={"image": b64(brighter(COLLINS, 0.7))})
    client.post(f"/identities/{first}/merge", params=query, json={"identities": [second]})
    assert len(client.get(f"/identities/{first}/corrections", params=query).json()["corrections"]) == 1
    assert client.get(f"/identities/{first}/export", params=query).json()["corrections"][0]["model_id"]
    assert client.delete(f"/identities/{first}", params=query).json()["deleted"]["corrections"] == 1


def test_corrections_that_show_an_erased_person_go_as_well(client: httpx.Client, collection_name: str) -> None:
    query = {"collection": collection_name}
    first = register(client, collection_name, "Collins", FACE).json()["identity_id"]
    second = register(client, collection_name, "Hopper", OTHER).json()["identity_id"]
    address = f"/identities/{first}/corrections"
    client.post(address, params=query, json={"image": b64(brighter(HOPPER, 0.7))})
    assert client.delete(f"/identities/{second}", params=query).json()["deleted"]["corrections"] == 1
    assert client.get(address, params=query).json()["corrections"] == []


def test_collections_come_page_by_page(client: httpx.Client) -> None:
    prefix = f"page-{uuid.uuid4().hex[:6]}"
    names = [f"{prefix}-{number}" for number in range(5)]
    for name in names:
        client.post("/collections", json={"name": name})
    seen: list[str] = []
    query: dict[str, Any] = {"prefix": prefix, "limit": 2}
    while True:
        page = client.get("/collections", params=query).json()
        seen += [item["name"] for item in page["collections"]]
        if page["next_cursor"] is None:
            break
        query["cursor"] = page["next_cursor"]
    assert seen == names
    assert client.get(f"/collections/{names[0]}").json()["identity_count"] == 0
    assert client.get("/collections/nowhere").json()["code"] == "collection_not_found"


def test_people_are_listed_by_their_metadata(client: httpx.Client, collection_name: str) -> None:
    register(client, collection_name, "a", FACE, metadata={"floor": 3})
    register(client, collection_name, "b", OTHER, metadata={"floor": 4})
    query = {"collection": collection_name}
    listed = client.get("/identities", params=query | {"filter": '{"floor": {"$gte": 4}}'}).json()["identities"]
    assert [person["label"] for person in listed] == ["b"]
    for words in ("[]", "{", '{"$bad": 1}'):
        assert client.get("/identities", params=query | {"filter": words}).json()["code"] == "invalid_filter"


def test_templates_come_page_by_page(client: httpx.Client, collection_name: str) -> None:
    pictures = [brighter(COLLINS, factor) for factor in (0.8, 0.9, 1.0)]
    made = register(client, collection_name, "a", *pictures).json()["identity_id"]
    query: dict[str, Any] = {"collection": collection_name, "limit": 2}
    first = client.get(f"/identities/{made}/templates", params=query).json()
    second = client.get(f"/identities/{made}/templates", params=query | {"cursor": first["next_cursor"]}).json()
    ids = [item["id"] for page in (first, second) for item in page["templates"]]
    assert len(set(ids)) == 3
    assert second["next_cursor"] is None
