"""The three operations, on JSON and on multipart with the same meaning."""

import re

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.photos import COLLINS, HOPPER, TRAINER, b64, brighter, encoded, pixels

FACE, OTHER = COLLINS.read_bytes(), HOPPER.read_bytes()


def register(client: httpx.Client, collection: str, label: str, *images: bytes, **fields: object) -> httpx.Response:
    body = {"label": label, "images": [b64(image) for image in images], **fields}
    return client.post("/register", params={"collection": collection}, json=body)


def test_register_verify_search_delete(client: httpx.Client, collection_name: str) -> None:
    made = register(client, collection_name, "Collins", FACE, metadata={"role": "astronaut"})
    assert made.status_code == 201
    identity = made.json()
    assert identity["created"]
    assert (identity["external_id"], identity["template_count"]) == ("Collins", 1)
    assert identity["images"][0]["status"] == "accepted"
    register(client, collection_name, "Hopper", OTHER)

    found = client.post(
        "/search", params={"collection": collection_name}, json={"image": b64(brighter(COLLINS, 0.7))}
    ).json()
    best, second = found["results"][0]["candidates"]
    assert (best["label"], best["match"]) == ("Collins", True)
    assert (second["label"], second["match"]) == ("Hopper", False)
    assert best["metadata"] == {"role": "astronaut"}
    assert found["plan"] == "exact"
    assert found["fmr"] == pytest.approx(1e-3)

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
    gone = client.delete(address).json()
    assert (gone["identity_id"], gone["templates_deleted"]) == (identity["identity_id"], 1)
    assert gone["deleted"] == {
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


def test_older_clients_body_works_as_it_is(client: httpx.Client) -> None:
    answer = client.post("/verify", json={"image_a": b64(FACE), "image_b": b64(OTHER), "threshold": 0.6})
    assert answer.status_code == 200
    assert answer.json()["match"] is False
    assert answer.json()["threshold"] == 0.6


def test_one_picture_may_be_called_image(client: httpx.Client, collection_name: str) -> None:
    fields = {"external_id": "7"}
    made = client.post("/register", params={"collection": collection_name}, json={**fields, "image": b64(FACE)})
    assert made.status_code == 201
    assert client.post(
        "/verify", params={"collection": collection_name}, json={**fields, "image": b64(brighter(COLLINS, 0.9))}
    ).json()["match"]
    assert (
        client.post(
            "/register", params={"collection": collection_name}, data=fields, files={"image": ("a", FACE)}
        ).json()["images"][0]["status"]
        == "duplicate"
    )


def test_json_and_multipart_mean_the_same(client: httpx.Client, collection_name: str) -> None:
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
    one = client.post("/verify", json=json_body).json()
    other = client.post("/verify", data={"fmr": "0.01"}, files={"image_a": ("a", FACE), "image_b": ("b", OTHER)}).json()
    assert one == other

    search = {"image": b64(FACE), "top_k": 2}
    one = client.post("/search", params={"collection": collection_name}, json=search).json()
    other = client.post(
        "/search", params={"collection": collection_name}, data={"top_k": "2"}, files={"image": ("a", FACE)}
    ).json()
    assert one["results"] == other["results"]

    box = as_json["images"][0]["face"]["box"]
    by_box = client.post(
        "/search",
        params={"collection": collection_name},
        data={"face": "box", "box": str(box)},
        files={"image": ("a", FACE)},
    )
    assert by_box.json()["results"][0]["candidates"][0]["match"]


def test_the_same_picture_twice_says_so_and_changes_nothing(client: httpx.Client, collection_name: str) -> None:
    first = register(client, collection_name, "C", FACE).json()
    again = register(client, collection_name, "C", FACE)
    assert again.status_code == 200
    document = again.json()
    assert (document["created"], document["template_count"]) == (False, 1)
    assert document["images"][0]["status"] == "duplicate"
    assert document["identity_id"] == first["identity_id"]


def test_each_picture_has_its_own_outcome(client: httpx.Client, collection_name: str) -> None:
    blank = encoded(np.zeros((200, 200, 3), np.uint8))
    document = register(client, collection_name, "C", FACE, blank, b"nonsense nonsense", brighter(COLLINS, 0.8)).json()
    assert [image["status"] for image in document["images"]] == ["accepted", "rejected", "rejected", "accepted"]
    assert [image["code"] for image in document["images"]] == [None, "no_face", "image_unreadable", None]
    assert document["template_count"] == 2


def test_a_stranger_gets_candidates_but_no_match(client: httpx.Client, collection_name: str) -> None:
    register(client, collection_name, "C", FACE)
    found = client.post(
        "/search", params={"collection": collection_name}, json={"image": b64(TRAINER.read_bytes())}
    ).json()
    assert [candidate["match"] for candidate in found["results"][0]["candidates"]] == [False]


def test_an_empty_gallery_answers_an_empty_list(client: httpx.Client, collection_name: str) -> None:
    found = client.post("/search", params={"collection": collection_name}, json={"image": b64(FACE)}).json()
    assert [result["candidates"] for result in found["results"]] == [[]]


def test_every_face_can_be_searched(client: httpx.Client, collection_name: str) -> None:
    register(client, collection_name, "Collins", FACE)
    register(client, collection_name, "Hopper", OTHER)
    both = np.concatenate([pixels(COLLINS), pixels(HOPPER)[:512]], axis=1)
    found = client.post(
        "/search", params={"collection": collection_name}, json={"image": b64(encoded(both)), "face": "all"}
    ).json()
    assert sorted(result["candidates"][0]["label"] for result in found["results"]) == ["Collins", "Hopper"]
    assert all(result["candidates"][0]["match"] for result in found["results"])


def test_a_cropped_face_needs_no_detector(client: httpx.Client) -> None:
    seen = client.post("/verify", json={"image_a": b64(FACE), "image_b": b64(FACE), "threshold": 0}).json()
    x0, y0, x1, y1 = seen["face_a"]["box"]
    cropped = encoded(Image.fromarray(pixels(COLLINS)).crop((int(x0), int(y0), int(x1), int(y1))), "PNG")
    body = {"image_a": b64(cropped), "image_b": b64(cropped), "detector": "none", "threshold": 0.5}
    answer = client.post("/verify", json=body).json()
    assert answer["score"] == pytest.approx(1, abs=1e-4)
    assert answer["face_a"]["landmarks"] is None


def test_a_stricter_rate_asks_for_more(client: httpx.Client) -> None:
    body = {"image_a": b64(FACE), "image_b": b64(OTHER)}
    loose, strict = (client.post("/verify", json={**body, "fmr": fmr}).json() for fmr in (1e-2, 1e-4))
    assert strict["threshold"] > loose["threshold"]
    assert (loose["fmr"], strict["fmr"]) == (1e-2, 1e-4)
    assert client.post("/verify", json={**body, "threshold": strict["threshold"]}).json()["fmr"] == pytest.approx(
        1e-4, rel=0.01
    )


def test_a_decision_says_what_it_stands_for(client: httpx.Client, collection_name: str) -> None:
    register(client, collection_name, "C", FACE)
    register(client, collection_name, "H", OTHER)
    body = {"image": b64(FACE)}
    by_fmr = client.post("/search", params={"collection": collection_name}, json={**body, "fmr": 1e-3}).json()
    assert by_fmr["fmr_interval"][0] < 1e-3 < by_fmr["fmr_interval"][1]
    assert by_fmr["fpir"] == pytest.approx(2e-3, rel=0.01)  # two people
    assert by_fmr["fpir_interval"][1] > by_fmr["fmr_interval"][1]
    assert by_fmr["precision"] == "f32"
    by_fpir = client.post("/search", params={"collection": collection_name}, json={**body, "fpir": 2e-3}).json()
    assert by_fpir["threshold"] == pytest.approx(by_fmr["threshold"], abs=1e-3)
    assert by_fpir["fpir"] == pytest.approx(2e-3)


def test_verify_takes_an_fpir_as_a_search_of_the_collection_would(client: httpx.Client, collection_name: str) -> None:
    register(client, collection_name, "C", FACE)
    register(client, collection_name, "H", OTHER)
    strict = {"fpir": 0.01}
    found = client.post("/search", params={"collection": collection_name}, json={**strict, "image": b64(FACE)}).json()
    pair = client.post(
        "/verify", params={"collection": collection_name}, json={**strict, "image_a": b64(FACE), "image_b": b64(OTHER)}
    ).json()
    enrolled = client.post(
        "/verify", params={"collection": collection_name}, json={**strict, "image_a": b64(FACE), "external_id": "H"}
    ).json()
    assert pair["threshold"] == enrolled["threshold"] == found["threshold"]
    assert pair["fpir"] == pytest.approx(0.01)
    only_two = client.post("/verify", json={"image_a": b64(FACE), "image_b": b64(OTHER), "fmr": 0.01}).json()
    assert (only_two["fmr"], only_two["fpir"]) == (0.01, None)  # nothing is searched
    assert not pair["match"]


def test_several_templates_ask_for_more_under_an_fmr(client: httpx.Client, collection_name: str) -> None:
    register(client, collection_name, "C", FACE, brighter(COLLINS, 0.8), brighter(COLLINS, 1.2))
    body = {"fmr": 1e-2}
    found = client.post("/search", params={"collection": collection_name}, json={**body, "image": b64(FACE)}).json()
    candidate = found["results"][0]["candidates"][0]
    assert (candidate["template_count"], candidate["match"]) == (3, True)
    alone = client.post("/verify", json={"fmr": 1e-2, "image_a": b64(FACE), "image_b": b64(FACE)}).json()
    third = client.post("/verify", json={"fmr": 1e-2 / 3, "image_a": b64(FACE), "image_b": b64(FACE)}).json()
    assert found["threshold"] == alone["threshold"] < candidate["threshold"]
    assert candidate["threshold"] == pytest.approx(third["threshold"], abs=1e-3)
    verified = client.post(
        "/verify", params={"collection": collection_name}, json={**body, "image_a": b64(FACE), "external_id": "C"}
    ).json()
    assert (verified["threshold"], verified["fmr"]) == (candidate["threshold"], 1e-2)
    by_threshold = {"image_a": b64(FACE), "external_id": "C"}
    plain = client.post(
        "/verify", params={"collection": collection_name}, json={**by_threshold, "threshold": found["threshold"]}
    ).json()
    assert plain["fmr"] == pytest.approx(3e-2, rel=0.02)  # three templates, three chances


def test_a_collection_has_its_own_default(client: httpx.Client, collection_name: str) -> None:
    name = f"{collection_name}-strict"
    made = client.post("/collections", json={"name": name, "fmr": 1e-4})
    assert (made.status_code, made.json()["fmr"], made.json()["fpir"]) == (201, 1e-4, None)
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


def test_the_calibration_is_told_with_its_picture(client: httpx.Client) -> None:
    model = client.get("/models").json()["models"][0]
    assert model["calibrated"]
    told = client.get(f"/models/{model['id']}/calibration").json()
    points = told["calibration"]["points"]
    assert told["calibration"]["impostor_pairs"] * points[-1]["fmr"] >= 10
    assert all(point["fmr_interval"][0] <= point["fmr"] <= point["fmr_interval"][1] for point in points)
    assert {point["gallery_size"] for point in told["calibration"]["identification"]} == {100, 1000, 10_000}
    picture = client.get(told["picture"])
    assert picture.headers["content-type"].startswith("image/svg+xml")
    assert b"<svg" in picture.content


def test_collections_are_listed_with_their_size(client: httpx.Client, collection_name: str) -> None:
    register(client, collection_name, "C", FACE)
    listed = client.get("/collections", params={"prefix": collection_name}).json()["collections"]
    assert [(item["name"], item["identity_count"]) for item in listed] == [(collection_name, 1)]
    assert client.get("/collections/default").json()["model_id"] == client.get("/readyz").json()["model_id"]


def test_no_answer_holds_an_embedding(client: httpx.Client, collection_name: str) -> None:
    made = register(client, collection_name, "C", FACE)
    found = client.post("/search", params={"collection": collection_name}, json={"image": b64(FACE)})
    for answer in (made, found):
        assert '"embedding"' not in answer.text
        assert max(len(numbers.split(",")) for numbers in re.findall(r"\[([^\[\]{}]*)\]", answer.text)) <= 4


def test_the_openapi_page_describes_both_kinds_of_body(client: httpx.Client) -> None:
    document = client.get("/openapi.json").json()
    for path in ("/register", "/verify", "/search"):
        content = document["paths"][path]["post"]["requestBody"]["content"]
        assert set(content) == {"application/json", "multipart/form-data"}
    assert client.get("/docs").status_code == 200


def test_another_face_of_the_same_picture_is_another_sample(client: httpx.Client, collection_name: str) -> None:
    both = encoded(np.concatenate([pixels(COLLINS), pixels(HOPPER)[:512]], axis=1))
    search = {"image": b64(both), "face": "all"}
    boxes = [
        result["face"]["box"]
        for result in client.post("/search", params={"collection": collection_name}, json=search).json()["results"]
    ]
    answers = [
        register(client, collection_name, "x", both, face="box", boxes=[box]).json() for box in (*boxes, boxes[0])
    ]
    assert [answer["images"][0]["status"] for answer in answers] == ["accepted", "accepted", "duplicate"]


def test_the_documentation_loads_nothing_from_elsewhere(client: httpx.Client) -> None:

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
