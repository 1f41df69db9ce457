"""Tests of thresholds, FMR and FPIR of /verify and /search, and of the calibration of a model."""

import httpx
import numpy as np
import pytest
from PIL import Image

from tests.contract.enrolment import FACE, OTHER, register
from tests.contract.test_embedding_jobs import unit
from tests.photos import COLLINS, b64, brighter, encoded, pixels


def test_verify_accepts_a_threshold_only(client: httpx.Client) -> None:
    response = client.post("/verify", json={"image_a": b64(FACE), "image_b": b64(OTHER), "threshold": 0.6})
    assert response.status_code == 200
    assert response.json()["match"] is False
    assert response.json()["threshold"] == 0.6


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


def test_a_search_without_a_rate_keeps_the_default_fpir(client: httpx.Client, collection_name: str) -> None:
    """In a gallery of few people the default FMR is stricter. The other people are random embeddings."""
    scope = {"collection": collection_name}
    client.patch(f"/collections/{collection_name}", json={"quality": "off"})
    register(client, collection_name, "C", FACE)
    few = client.post("/search", params=scope, json={"image": b64(FACE)}).json()
    assert (few["fmr"], few["note"]) == (1e-3, None)
    model = client.get("/models").json()["models"][0]
    for number, vector in enumerate(unit(60)):
        body = {"external_id": f"p{number}", "embeddings": [vector.tolist()], "model_id": model["id"]}
        assert client.post("/register", params=scope, json=body).json()["accepted_count"] == 1
    many = client.post("/search", params=scope, json={"image": b64(FACE)}).json()
    assert many["fpir"] == pytest.approx(0.01)
    assert many["threshold"] > few["threshold"]
    assert (many["note"], many["results"][0]["candidates"][0]["match"]) == (None, True)


def test_two_faces_of_one_person_are_flagged(client: httpx.Client, collection_name: str) -> None:
    register(client, collection_name, "C", FACE)
    picture = pixels(COLLINS)[:300, 100:400]
    body = {"image": b64(encoded(np.hstack([picture, picture]), "PNG")), "face": "all"}
    response = client.post("/search", params={"collection": collection_name}, json=body).json()
    assert [item["shares_match_with"] for item in response["results"]] == [[1], [0]]


def test_a_probe_of_insufficient_quality_matches_nobody(client: httpx.Client, collection_name: str) -> None:
    """An operator can tell a bad picture from a stranger. `force`, and a collection without limits, decide anyway."""
    register(client, collection_name, "C", FACE)
    scope = {"collection": collection_name}
    small = Image.fromarray(pixels(COLLINS)).resize((64, 64)).resize((512, 512))
    probe = {"image": b64(encoded(small)), "threshold": 0.1}
    result = client.post("/search", params=scope, json=probe).json()["results"][0]
    reasons = result["quality_reasons"]
    assert "too_blurred" in reasons
    candidate = result["candidates"][0]
    assert (candidate["external_id"], candidate["match"], candidate["threshold"]) == ("C", False, None)
    assert "too blurred" in candidate["undecided"]
    forced = client.post("/search", params=scope, json=probe | {"force": True}).json()["results"][0]
    assert (forced["quality_reasons"], forced["candidates"][0]["match"]) == (reasons, True)
    sharp = client.post("/search", params=scope, json={"image": b64(FACE)}).json()["results"][0]
    assert (sharp["quality_reasons"], sharp["candidates"][0]["match"]) == ([], True)
    client.patch(f"/collections/{collection_name}", json={"quality": "off"})
    free = client.post("/search", params=scope, json=probe).json()["results"][0]
    assert (free["quality_reasons"], free["candidates"][0]["match"]) == ([], True)
