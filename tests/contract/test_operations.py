"""Tests of /register, /verify and /search with JSON and multipart bodies."""

import re

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.contract.enrolment import FACE, OTHER, register
from tests.photos import COLLINS, HOPPER, TRAINER, b64, brighter, encoded, pixels


def test_register_verify_search_delete(client: httpx.Client, collection_name: str) -> None:
    registered = register(client, collection_name, "Collins", FACE, metadata={"role": "astronaut"})
    assert registered.status_code == 201
    identity = registered.json()
    assert identity["created"]
    assert (identity["external_id"], identity["template_count"]) == ("Collins", 1)
    assert identity["images"][0]["status"] == "accepted"
    register(client, collection_name, "Hopper", OTHER)

    probe = {"image": b64(brighter(COLLINS, 0.7))}
    search = client.post("/search", params={"collection": collection_name}, json=probe).json()
    best, second = search["results"][0]["candidates"]
    assert (best["label"], best["match"]) == ("Collins", True)
    assert (second["label"], second["match"]) == ("Hopper", False)
    assert best["metadata"] == {"role": "astronaut"}
    assert search["plan"] == "exact"
    assert search["fmr"] == pytest.approx(1e-3)

    body = {"image_a": b64(brighter(COLLINS, 1.2))}
    by_id = client.post(
        "/verify", params={"collection": collection_name}, json={**body, "identity_id": identity["identity_id"]}
    ).json()
    by_key = client.post(
        "/verify", params={"collection": collection_name}, json={**body, "external_id": "Hopper"}
    ).json()
    assert by_id["match"]
    assert not by_key["match"]
    assert by_id["identity"]["label"] == "Collins"
    assert by_key["identity"] is None  # a probe of another person reveals nothing about the identity

    address = f"/identities/{identity['identity_id']}?collection={collection_name}"
    assert client.get(address).json()["label"] == "Collins"
    deletion = client.delete(address).json()
    assert (deletion["identity_id"], deletion["templates_deleted"]) == (identity["identity_id"], 1)
    assert deletion["deleted"] == {
        "templates": 1,
        "centroids": 1,
        "corrections": 0,
        "crops": 0,
        "responses": 0,
        "group_memberships": 0,
        "job_rows": 0,
    }
    assert client.get(address).status_code == 404
    after = client.post("/search", params={"collection": collection_name}, json={"image": b64(FACE)}).json()
    assert [candidate["label"] for candidate in after["results"][0]["candidates"]] == ["Hopper"]


def test_register_and_verify_accept_the_field_image(client: httpx.Client, collection_name: str) -> None:
    fields = {"external_id": "7"}
    registered = client.post("/register", params={"collection": collection_name}, json={**fields, "image": b64(FACE)})
    assert registered.status_code == 201
    assert client.post(
        "/verify", params={"collection": collection_name}, json={**fields, "image": b64(brighter(COLLINS, 0.9))}
    ).json()["match"]
    repeated = client.post(
        "/register", params={"collection": collection_name}, data=fields, files={"image": ("a", FACE)}
    )
    assert repeated.json()["images"][0]["status"] == "duplicate"


def test_json_and_multipart_give_equal_results(client: httpx.Client, collection_name: str) -> None:
    fields = {"external_id": "7", "label": "C", "face": "strongest"}
    as_json = register(
        client, collection_name, "C", FACE, external_id="7", face="strongest", metadata={"a": [1]}
    ).json()
    as_form = client.post(
        "/register",
        params={"collection": collection_name},
        data={**fields, "metadata": '{"a": [1]}'},
        files=[("images", ("a.png", FACE)), ("images", ("b.jpg", brighter(COLLINS, 0.8)))],
    ).json()
    assert as_form["identity_id"] == as_json["identity_id"]
    assert [image["status"] for image in as_form["images"]] == ["duplicate", "accepted"]

    json_body = {"image_a": b64(FACE), "image_b": b64(OTHER), "fmr": 0.01}
    json_result = client.post("/verify", json=json_body).json()
    files = {"image_a": ("a", FACE), "image_b": ("b", OTHER)}
    form_result = client.post("/verify", data={"fmr": "0.01"}, files=files).json()
    assert json_result == form_result

    search = {"image": b64(FACE), "top_k": 2}
    json_result = client.post("/search", params={"collection": collection_name}, json=search).json()
    form_result = client.post(
        "/search", params={"collection": collection_name}, data={"top_k": "2"}, files={"image": ("a", FACE)}
    ).json()
    assert json_result["results"] == form_result["results"]

    box = as_json["images"][0]["face"]["box"]
    by_box = client.post(
        "/search",
        params={"collection": collection_name},
        data={"face": "box", "box": str(box)},
        files={"image": ("a", FACE)},
    )
    assert by_box.json()["results"][0]["candidates"][0]["match"]


def test_repeated_picture_is_a_duplicate(client: httpx.Client, collection_name: str) -> None:
    first = register(client, collection_name, "C", FACE).json()
    repeated = register(client, collection_name, "C", FACE)
    assert repeated.status_code == 200
    document = repeated.json()
    assert (document["created"], document["template_count"]) == (False, 1)
    assert document["images"][0]["status"] == "duplicate"
    assert document["identity_id"] == first["identity_id"]


def test_each_picture_has_its_own_status(client: httpx.Client, collection_name: str) -> None:
    blank = encoded(np.zeros((200, 200, 3), np.uint8))
    document = register(client, collection_name, "C", FACE, blank, b"nonsense nonsense", brighter(COLLINS, 0.8)).json()
    assert [image["status"] for image in document["images"]] == ["accepted", "rejected", "rejected", "accepted"]
    assert [image["code"] for image in document["images"]] == [None, "no_face", "image_unreadable", None]
    assert document["template_count"] == 2


def test_search_for_an_unknown_person_has_no_match(client: httpx.Client, collection_name: str) -> None:
    register(client, collection_name, "C", FACE)
    search = client.post(
        "/search", params={"collection": collection_name}, json={"image": b64(TRAINER.read_bytes())}
    ).json()
    assert [candidate["match"] for candidate in search["results"][0]["candidates"]] == [False]


def test_search_of_an_empty_gallery_has_no_candidates(client: httpx.Client, collection_name: str) -> None:
    search = client.post("/search", params={"collection": collection_name}, json={"image": b64(FACE)}).json()
    assert [result["candidates"] for result in search["results"]] == [[]]


def test_search_for_every_face_of_a_picture(client: httpx.Client, collection_name: str) -> None:
    register(client, collection_name, "Collins", FACE)
    register(client, collection_name, "Hopper", OTHER)
    both = np.concatenate([pixels(COLLINS), pixels(HOPPER)[:512]], axis=1)
    search = client.post(
        "/search", params={"collection": collection_name}, json={"image": b64(encoded(both)), "face": "all"}
    ).json()
    assert sorted(result["candidates"][0]["label"] for result in search["results"]) == ["Collins", "Hopper"]
    assert all(result["candidates"][0]["match"] for result in search["results"])


def test_cropped_face_is_compared_without_detector(client: httpx.Client) -> None:
    detected = client.post("/verify", json={"image_a": b64(FACE), "image_b": b64(FACE), "threshold": 0}).json()
    x0, y0, x1, y1 = detected["face_a"]["box"]
    cropped = encoded(Image.fromarray(pixels(COLLINS)).crop((int(x0), int(y0), int(x1), int(y1))), "PNG")
    body = {"image_a": b64(cropped), "image_b": b64(cropped), "detector": "none", "threshold": 0.5}
    response = client.post("/verify", json=body).json()
    assert response["score"] == pytest.approx(1, abs=1e-4)
    assert response["face_a"]["landmarks"] is None


def test_collections_are_listed_with_identity_counts(client: httpx.Client, collection_name: str) -> None:
    register(client, collection_name, "C", FACE)
    listed = client.get("/collections", params={"prefix": collection_name}).json()["collections"]
    assert [(item["name"], item["identity_count"]) for item in listed] == [(collection_name, 1)]
    assert client.get("/collections/default").json()["model_id"] == client.get("/readyz").json()["model_id"]


def test_responses_contain_no_embedding(client: httpx.Client, collection_name: str) -> None:
    registered = register(client, collection_name, "C", FACE)
    search = client.post("/search", params={"collection": collection_name}, json={"image": b64(FACE)})
    for response in (registered, search):
        assert '"embedding"' not in response.text
        assert max(len(numbers.split(",")) for numbers in re.findall(r"\[([^\[\]{}]*)\]", response.text)) <= 4


def test_another_face_of_the_same_picture_is_not_a_duplicate(client: httpx.Client, collection_name: str) -> None:
    picture = encoded(np.concatenate([pixels(COLLINS), pixels(HOPPER)[:512]], axis=1))
    search = {"image": b64(picture), "face": "all"}
    boxes = [
        result["face"]["box"]
        for result in client.post("/search", params={"collection": collection_name}, json=search).json()["results"]
    ]
    responses = [
        register(client, collection_name, "x", picture, face="box", boxes=[box]).json() for box in (*boxes, boxes[0])
    ]
    assert [response["images"][0]["status"] for response in responses] == ["accepted", "accepted", "duplicate"]
