"""Tests of /register, /verify and /search with JSON and multipart bodies, and of the OpenAPI document."""

import re

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.photos import COLLINS, HOPPER, TRAINER, b64, brighter, encoded, pixels

FACE, OTHER = COLLINS.read_bytes(), HOPPER.read_bytes()


def register(client: httpx.Client, collection: str, label: str, *images: bytes, **fields: object) -> httpx.Response:
    """Enrols images under a label and returns the response."""
    body = {"label": label, "images": [b64(image) for image in images], **fields}
    return client.post("/register", params={"collection": collection}, json=body)


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
    assert by_key["identity"]["label"] == "Hopper"

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
        "job_rows": 0,
    }
    assert client.get(address).status_code == 404
    after = client.post("/search", params={"collection": collection_name}, json={"image": b64(FACE)}).json()
    assert [candidate["label"] for candidate in after["results"][0]["candidates"]] == ["Hopper"]


def test_verify_accepts_a_threshold_only(client: httpx.Client) -> None:
    response = client.post("/verify", json={"image_a": b64(FACE), "image_b": b64(OTHER), "threshold": 0.6})
    assert response.status_code == 200
    assert response.json()["match"] is False
    assert response.json()["threshold"] == 0.6


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


def test_lower_fmr_has_a_higher_threshold(client: httpx.Client) -> None:
    body = {"image_a": b64(FACE), "image_b": b64(OTHER)}
    loose, strict = (client.post("/verify", json={**body, "fmr": fmr}).json() for fmr in (1e-2, 1e-4))
    assert strict["threshold"] > loose["threshold"]
    assert (loose["fmr"], strict["fmr"]) == (1e-2, 1e-4)
    assert client.post("/verify", json={**body, "threshold": strict["threshold"]}).json()["fmr"] == pytest.approx(
        1e-4, rel=0.01
    )


def test_search_reports_fmr_and_fpir_with_intervals(client: httpx.Client, collection_name: str) -> None:
    register(client, collection_name, "C", FACE)
    register(client, collection_name, "H", OTHER)
    body = {"image": b64(FACE)}
    by_fmr = client.post("/search", params={"collection": collection_name}, json={**body, "fmr": 1e-3}).json()
    assert by_fmr["fmr_interval"][0] < 1e-3 < by_fmr["fmr_interval"][1]
    assert by_fmr["fpir"] == pytest.approx(2e-3, rel=0.01)  # The gallery has two identities.
    assert by_fmr["fpir_interval"][1] > by_fmr["fmr_interval"][1]
    assert by_fmr["precision"] == "f32"
    by_fpir = client.post("/search", params={"collection": collection_name}, json={**body, "fpir": 2e-3}).json()
    assert by_fpir["threshold"] == pytest.approx(by_fmr["threshold"], abs=1e-3)
    assert by_fpir["fpir"] == pytest.approx(2e-3)


def test_fpir_gives_the_same_threshold_for_verify_and_search(client: httpx.Client, collection_name: str) -> None:
    register(client, collection_name, "C", FACE)
    register(client, collection_name, "H", OTHER)
    strict = {"fpir": 0.01}
    search = client.post("/search", params={"collection": collection_name}, json={**strict, "image": b64(FACE)}).json()
    pair = client.post(
        "/verify", params={"collection": collection_name}, json={**strict, "image_a": b64(FACE), "image_b": b64(OTHER)}
    ).json()
    enrolled = client.post(
        "/verify", params={"collection": collection_name}, json={**strict, "image_a": b64(FACE), "external_id": "H"}
    ).json()
    assert pair["threshold"] == enrolled["threshold"] == search["threshold"]
    assert pair["fpir"] == pytest.approx(0.01)
    two_pictures = client.post("/verify", json={"image_a": b64(FACE), "image_b": b64(OTHER), "fmr": 0.01}).json()
    assert (two_pictures["fmr"], two_pictures["fpir"]) == (0.01, None)  # There is no gallery.
    assert not pair["match"]


def test_threshold_under_an_fmr_rises_with_the_number_of_templates(client: httpx.Client, collection_name: str) -> None:
    register(client, collection_name, "C", FACE, brighter(COLLINS, 0.8), brighter(COLLINS, 1.2))
    body = {"fmr": 1e-2}
    search = client.post("/search", params={"collection": collection_name}, json={**body, "image": b64(FACE)}).json()
    candidate = search["results"][0]["candidates"][0]
    assert (candidate["template_count"], candidate["match"]) == (3, True)
    alone = client.post("/verify", json={"fmr": 1e-2, "image_a": b64(FACE), "image_b": b64(FACE)}).json()
    third = client.post("/verify", json={"fmr": 1e-2 / 3, "image_a": b64(FACE), "image_b": b64(FACE)}).json()
    assert search["threshold"] == alone["threshold"] < candidate["threshold"]
    assert candidate["threshold"] == pytest.approx(third["threshold"], abs=1e-3)
    verified = client.post(
        "/verify", params={"collection": collection_name}, json={**body, "image_a": b64(FACE), "external_id": "C"}
    ).json()
    assert (verified["threshold"], verified["fmr"]) == (candidate["threshold"], 1e-2)
    by_threshold = {"image_a": b64(FACE), "external_id": "C"}
    uncorrected = client.post(
        "/verify", params={"collection": collection_name}, json={**by_threshold, "threshold": search["threshold"]}
    ).json()
    assert uncorrected["fmr"] == pytest.approx(3e-2, rel=0.02)  # Each of three templates can match falsely.


def test_collection_has_its_own_default_operating_point(client: httpx.Client, collection_name: str) -> None:
    name = f"{collection_name}-strict"
    created = client.post("/collections", json={"name": name, "fmr": 1e-4})
    assert (created.status_code, created.json()["fmr"], created.json()["fpir"]) == (201, 1e-4, None)
    probe = {"image": b64(FACE)}
    assert client.post("/search", params={"collection": name}, json=probe).json()["fmr"] == 1e-4
    assert client.post("/search", params={"collection": name}, json={**probe, "fmr": 1e-2}).json()["fmr"] == 1e-2
    pictures = {"image_a": b64(FACE), "image_b": b64(OTHER)}
    assert client.post("/verify", params={"collection": name}, json={**pictures}).json()["fmr"] == 1e-4
    assert client.post("/verify", json=pictures).json()["fmr"] == 1e-3
    changed = client.patch(f"/collections/{name}", json={"fpir": 0.05}).json()
    assert (changed["fmr"], changed["fpir"]) == (None, 0.05)
    register(client, name, "C", FACE)
    assert client.post("/search", params={"collection": name}, json=probe).json()["fpir"] == pytest.approx(0.05)
    cleared = client.patch(f"/collections/{name}", json={"fpir": None}).json()
    assert (cleared["fmr"], cleared["fpir"]) == (None, None)
    refused = client.patch(f"/collections/{name}", json={"fpir": 1e-9})
    assert (refused.status_code, refused.json()["code"]) == (422, "rate_not_calibrated")
    assert client.post("/search", params={"collection": name}, json=probe).json()["fmr"] == 1e-3


def test_calibration_is_returned_with_its_plot(client: httpx.Client) -> None:
    model = client.get("/models").json()["models"][0]
    assert model["calibrated"]
    document = client.get(f"/models/{model['id']}/calibration").json()
    points = document["calibration"]["points"]
    assert document["calibration"]["impostor_pairs"] * points[-1]["fmr"] >= 10
    assert all(point["fmr_interval"][0] <= point["fmr"] <= point["fmr_interval"][1] for point in points)
    assert {point["gallery_size"] for point in document["calibration"]["identification"]} == {100, 1000, 10_000}
    plot = client.get(document["picture"])
    assert plot.headers["content-type"].startswith("image/svg+xml")
    assert b"<svg" in plot.content


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


def test_openapi_document_has_both_media_types(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    for path in ("/register", "/verify", "/search"):
        content = document["paths"][path]["post"]["requestBody"]["content"]
        assert set(content) == {"application/json", "multipart/form-data"}
    assert client.get("/docs").status_code == 200


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


def test_documentation_page_loads_no_external_resource(client: httpx.Client) -> None:
    page = client.get("/docs").text
    sources = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert sources
    assert [source for source in sources if source.startswith("http")] == []
    assert all(client.get(source).status_code == 200 for source in sources)


def test_every_reference_in_the_openapi_document_resolves(client: httpx.Client) -> None:
    response = client.get("/openapi.json")
    components = response.json()["components"]
    for kind, name in re.findall(r'"#/components/(\w+)/([^"]+)"', response.text):
        assert name in components[kind]
    assert "$defs" not in response.text
    content = response.json()["paths"]["/search"]["post"]["requestBody"]["content"]
    assert next(iter(content)) == "multipart/form-data"
    assert components["schemas"]["SearchForm"]["properties"]["image"]["format"] == "binary"
