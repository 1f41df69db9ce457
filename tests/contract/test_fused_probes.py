"""Tests of searches with several pictures of one person, which are fused into one probe."""

import httpx
import numpy as np
import pytest

from service.inference.bundle import read_embedder
from service.inference.calibration import rate_of_one
from service.recognition.decision import Comparisons, DecisionPolicy, OperatingPoint
from service.runtime.settings import BUNDLES
from tests.photos import BUS, COLLINS, HOPPER, b64, brighter, encoded


def search(client: httpx.Client, collection: str, *pictures: bytes, **fields: object) -> httpx.Response:
    body = {"images": [b64(picture) for picture in pictures], **fields}
    return client.post("/search", params={"collection": collection}, json=body)


@pytest.fixture
def enrolled(client: httpx.Client, collection_name: str) -> str:
    """Returns the name of a collection in which Collins and Hopper are enrolled."""
    for name, path in (("collins", COLLINS), ("hopper", HOPPER)):
        body = {"label": name, "images": [b64(path.read_bytes())]}
        assert client.post("/register", params={"collection": collection_name}, json=body).status_code == 201
    return collection_name


def test_several_pictures_are_fused_into_one_probe(client: httpx.Client, enrolled: str) -> None:
    response = search(client, enrolled, brighter(COLLINS, 0.7), brighter(COLLINS, 0.9))
    assert response.status_code == 200, response.text
    (result,) = response.json()["results"]
    assert (result["fused"], result["candidates"][0]["external_id"]) == (2, "collins")
    assert 0.9 < result["lowest_similarity"] < 1
    assert not result["outlier"]
    assert result["candidates"][0]["match"] is True


def test_list_of_one_picture_equals_a_single_picture(client: httpx.Client, enrolled: str) -> None:
    as_list = search(client, enrolled, COLLINS.read_bytes()).json()
    single = client.post("/search", params={"collection": enrolled}, json={"image": b64(COLLINS.read_bytes())}).json()
    assert as_list["results"] == single["results"]
    assert as_list["results"][0]["lowest_similarity"] is None


def test_pictures_of_different_people_are_marked_as_outlier(client: httpx.Client, enrolled: str) -> None:
    (result,) = search(client, enrolled, COLLINS.read_bytes(), HOPPER.read_bytes()).json()["results"]
    assert result["outlier"]
    assert result["lowest_similarity"] < 0.3


def test_threshold_rises_with_the_number_of_pictures(client: httpx.Client, enrolled: str) -> None:
    one = search(client, enrolled, COLLINS.read_bytes(), fmr=1e-3).json()
    two = search(client, enrolled, COLLINS.read_bytes(), brighter(COLLINS, 0.8), fmr=1e-3).json()
    assert two["threshold"] > one["threshold"]
    assert two["fmr"] == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(("kind", "rate"), [("fmr", 1e-3), ("fpir", 0.05)])
def test_threshold_of_a_fused_probe_corrects_for_its_comparisons(kind: str, rate: float) -> None:
    policy = DecisionPolicy(read_embedder(BUNDLES / "embedder").calibration, "f32", OperatingPoint("fmr", 1e-3))
    fused = policy.decide(OperatingPoint(kind, rate), Comparisons(10, 10, 3))  # type: ignore[arg-type]
    comparisons = 3 if kind == "fmr" else 30
    expected = policy.threshold_for("fmr", rate_of_one(rate, comparisons))
    assert fused.threshold == pytest.approx(expected)
    reported = fused.fmr if kind == "fmr" else fused.fpir
    assert reported is not None
    assert reported.value == pytest.approx(rate, rel=1e-6)
    if kind == "fmr":
        assert fused.threshold_for(2) == pytest.approx(policy.threshold_for("fmr", rate, 6))


def test_problem_points_to_the_picture_without_a_face(client: httpx.Client, enrolled: str) -> None:
    blank = encoded(np.full((200, 200, 3), 90, np.uint8), "PNG")
    response = search(client, enrolled, COLLINS.read_bytes(), blank)
    assert (response.status_code, response.json()["pointer"]) == (422, "/images/1")


def test_invalid_combinations_of_pictures_are_refused(client: httpx.Client, enrolled: str) -> None:
    both = {"image": b64(COLLINS.read_bytes()), "images": [b64(HOPPER.read_bytes())]}
    assert client.post("/search", params={"collection": enrolled}, json=both).status_code == 422
    assert client.post("/search", params={"collection": enrolled}, json={}).status_code == 422
    assert search(client, enrolled, BUS.read_bytes(), COLLINS.read_bytes(), face="all").status_code == 422
    assert search(client, enrolled, *[encoded(np.zeros((32, 32, 3), np.uint8))] * 9).status_code == 422
    form = {"images": COLLINS.read_bytes()}
    assert client.post("/search", params={"collection": enrolled}, data={}, files=form).status_code == 200
