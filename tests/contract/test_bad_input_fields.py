"""Tests of invalid fields of a request body: each fault has its own problem code, and nothing is stored."""

import json

import httpx
import pytest

from tests.contract.enrolment import FACE, JPEG, identity_count
from tests.contract.problem_documents import assert_problem
from tests.photos import b64


@pytest.mark.parametrize(
    ("path", "body", "status", "code"),
    [
        ("/search", {"image": b64(FACE), "top_k": 0}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "top_k": 10_000}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "top_k": "many"}, 422, "invalid_request"),
        ("/search", {"image": 5}, 422, "invalid_request"),
        ("/search", {"image": "*** not base64 ***"}, 422, "invalid_base64"),
        ("/search", {"image": ""}, 422, "invalid_base64"),
        ("/search", {"image": "data:image/png;base64,"}, 422, "invalid_base64"),
        ("/search", {}, 422, "invalid_request"),
        ("/search", [1, 2], 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "surprise": 1}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "fmr": 0.01, "threshold": 0.5}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "fmr": 0.01, "fpir": 0.01}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "fpir": 0.01, "threshold": 0.5}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "fpir": 0}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "fpir": 1}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "fpir": 1e-12}, 422, "rate_not_calibrated"),
        ("/verify", {"image_a": b64(FACE), "image_b": b64(FACE), "fmr": 1e-9}, 422, "rate_not_calibrated"),
        ("/verify", {"image_a": b64(FACE), "image_b": b64(FACE), "fmr": 0.5}, 422, "rate_not_calibrated"),
        ("/verify", {"image_a": b64(FACE), "image_b": b64(FACE), "fmr": 1, "fpir": 1}, 422, "invalid_request"),
        ("/collections", {"name": "both", "fmr": 0.01, "fpir": 0.01}, 422, "invalid_request"),
        ("/collections", {"name": "never", "fmr": 1e-12}, 422, "rate_not_calibrated"),
        ("/verify?collection=no-such", {"image_a": b64(FACE), "image_b": b64(FACE)}, 404, "collection_not_found"),
        ("/search", {"image": b64(FACE), "fmr": 0}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "fmr": 2}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "fmr": 1e-12}, 422, "rate_not_calibrated"),
        ("/search", {"image": b64(FACE), "threshold": 1.5}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "face": "box"}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "face": "prettiest"}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "box": [1, 2, 3, 4]}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "face": "box", "box": [1, 2, 3]}, 422, "invalid_request"),
        ("/search", {"image": b64(FACE), "face": "box", "box": [0, 0, 9, 9]}, 422, "no_face"),
        ("/search", {"image": b64(FACE), "detector": "dlib"}, 422, "invalid_request"),
        ("/search?collection=no-such", {"image": b64(FACE)}, 404, "collection_not_found"),
        ("/search?collection=../x", {"image": b64(FACE)}, 422, "invalid_request"),
        ("/register", {"label": "x", "images": []}, 422, "invalid_request"),
        ("/register", {"label": "x"}, 422, "invalid_request"),
        ("/register", {"images": [b64(FACE)]}, 422, "invalid_request"),
        ("/register", {"label": "", "images": [b64(FACE)]}, 422, "invalid_request"),
        ("/register", {"label": "a\u0000b", "images": [b64(FACE)]}, 422, "invalid_request"),
        ("/register", {"label": "x", "metadata": {"a": ["b\u0000"]}, "images": [b64(FACE)]}, 422, "invalid_request"),
        ("/register", {"label": "x", "metadata": {"a": "b" * 20_000}, "images": [b64(FACE)]}, 422, "invalid_request"),
        ("/register", {"label": "x", "metadata": "text", "images": [b64(FACE)]}, 422, "invalid_request"),
        ("/register", {"label": "x", "images": [b64(JPEG)] * 33}, 422, "invalid_request"),
        ("/register", {"label": "x", "images": [b64(FACE)], "face": "all"}, 422, "invalid_request"),
        ("/register?collection=no-such", {"label": "x", "images": [b64(FACE)]}, 404, "collection_not_found"),
        ("/register", {"label": "x", "images": [b64(FACE)], "face": "box", "boxes": []}, 422, "invalid_request"),
        ("/verify", {"image_a": b64(FACE)}, 422, "invalid_request"),
        ("/verify", {"image_a": b64(FACE), "image_b": b64(FACE), "external_id": "x"}, 422, "invalid_request"),
        ("/verify", {"image_a": b64(FACE), "external_id": "nobody"}, 404, "identity_not_found"),
        ("/verify", {"image_a": b64(FACE), "image_b": b64(FACE), "face": "all"}, 422, "invalid_request"),
        ("/collections", {"name": "bad name"}, 422, "invalid_request"),
        ("/collections", {"name": "default"}, 409, "collection_exists"),
    ],
)
def test_invalid_body_is_refused(client: httpx.Client, path: str, body: object, status: int, code: str) -> None:
    document = assert_problem(client.post(path, json=body), status, code)
    assert b64(FACE)[:40] not in json.dumps(document)


@pytest.mark.parametrize(
    "fields",
    ['"metadata": {"a": NaN}', '"metadata": {"\\ud800": 1}', '"external_id": "\\ud800"', '"boxes": [[0, 0, NaN, 1]]'],
)
def test_values_that_postgresql_cannot_store_are_refused(
    client: httpx.Client, collection_name: str, fields: str
) -> None:
    body = f'{{"label": "x", "images": ["{b64(FACE)}"], {fields}}}'
    response = client.post(
        "/register", params={"collection": collection_name}, content=body, headers={"content-type": "application/json"}
    )
    assert response.status_code in {400, 422}, response.text
    assert response.json()["code"] in {"invalid_request", "malformed_body"}
    assert identity_count(client, collection_name) == 0


def test_response_to_many_faults_is_short(client: httpx.Client) -> None:
    many_boxes = client.post("/register", json={"label": "x", "images": [b64(JPEG)], "boxes": [0] * 100_000})
    assert_problem(many_boxes, 422, "invalid_request")
    many_fields = client.post("/search", json={f"field{number}": 1 for number in range(100_000)})
    assert_problem(many_fields, 422, "invalid_request")
    assert len(many_boxes.content) + len(many_fields.content) < 10_000


@pytest.mark.parametrize("depth", [300, 5_000])
def test_deeply_nested_metadata_in_a_form_is_refused(client: httpx.Client, collection_name: str, depth: int) -> None:
    deep = '{"a":' + "[" * depth + "]" * depth + "}"
    fields = {"label": "x", "metadata": deep}
    response = client.post(
        "/register", params={"collection": collection_name}, data=fields, files={"images": ("x", FACE)}
    )
    assert_problem(response, 400, "malformed_body")


def test_text_that_resembles_an_escape_is_stored_unchanged(client: httpx.Client, collection_name: str) -> None:
    metadata = {"folder": "C:\\u0000dir"}
    body = {"label": "x", "images": [b64(FACE)], "metadata": metadata}
    registered = client.post("/register", params={"collection": collection_name}, json=body).json()
    path = f"/identities/{registered['identity_id']}?collection={collection_name}"
    assert client.get(path).json()["metadata"] == metadata


def test_missing_body_is_refused(client: httpx.Client) -> None:
    response = client.post("/register")
    assert (response.status_code, response.json()["detail"]) == (422, "send `external_id`, `label`, or both")
