"""Several pictures of one person in one search."""

import httpx
import numpy as np
import pytest

from service.inference.bundle import read_embedder
from service.inference.calibration import rate_of_one
from service.recognition.decision import Comparisons, DecisionPolicy, OperatingPoint
from service.runtime.settings import BUNDLES
from tests.photos import BUS, COLLINS, HOPPER, b64, brighter, encoded


def search(client: httpx.Client, collection: str, *pictures: bytes, **more: object) -> httpx.Response:
    body = {"images": [b64(picture) for picture in pictures], **more}
    return client.post("/search", params={"collection": collection}, json=body)


@pytest.fixture
def enrolled(client: httpx.Client, collection_name: str) -> str:
    for name, path in (("collins", COLLINS), ("hopper", HOPPER)):
        body = {"label": name, "images": [b64(path.read_bytes())]}
        assert client.post("/register", params={"collection": collection_name}, json=body).status_code == 201
    return collection_name


def test_several_pictures_make_one_probe(client: httpx.Client, enrolled: str) -> None:
    answer = search(client, enrolled, brighter(COLLINS, 0.7), brighter(COLLINS, 0.9))
    assert answer.status_code == 200, answer.text
    (result,) = answer.json()["results"]
    assert (result["fused"], result["candidates"][0]["external_id"]) == (2, "collins")
    assert 0.9 < result["lowest_similarity"] < 1
    assert not result["outlier"]
    assert result["candidates"][0]["match"] is True


def test_one_picture_in_the_list_is_one_picture(client: httpx.Client, enrolled: str) -> None:
    listed = search(client, enrolled, COLLINS.read_bytes()).json()
    alone = client.post("/search", params={"collection": enrolled}, json={"image": b64(COLLINS.read_bytes())}).json()
    assert listed["results"] == alone["results"]
    assert listed["results"][0]["lowest_similarity"] is None


def test_pictures_of_several_people_are_told(client: httpx.Client, enrolled: str) -> None:
    (result,) = search(client, enrolled, COLLINS.read_bytes(), HOPPER.read_bytes()).json()["results"]
    assert result["outlier"]
    assert result["lowest_similarity"] < 0.3


def test_more_pictures_ask_for_more(client: httpx.Client, enrolled: str) -> None:
    one = search(client, enrolled, COLLINS.read_bytes(), fmr=1e-3).json()
    two = search(client, enrolled, COLLINS.read_bytes(), brighter(COLLINS, 0.8), fmr=1e-3).json()
    assert two["threshold"] > one["threshold"]
    assert two["fmr"] == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(("kind", "rate"), [("fmr", 1e-3), ("fpir", 0.05)])
def test_the_threshold_of_a_fused_probe(kind: str, rate: float) -> None:
    policy = DecisionPolicy(read_embedder(BUNDLES / "embedder").calibration, "f32", OperatingPoint("fmr", 1e-3))
    fused = policy.decide(OperatingPoint(kind, rate), Comparisons(10, 10, 3))  # type: ignore[arg-type]
    comparisons = 3 if kind == "fmr" else 30
    expected = policy.threshold_for("fmr", rate_of_one(rate, comparisons))
    assert fused.threshold == pytest.approx(expected)
    told = fused.fmr if kind == "fmr" else fused.fpir
    assert told is not None
    assert told.value == pytest.approx(rate, rel=1e-6)
    if kind == "fmr":
        assert fused.threshold_for(2) == pytest.approx(policy.threshold_for("fmr", rate, 6))


def test_a_picture_without_a_face_is_named(client: httpx.Client, enrolled: str) -> None:
    blank = encoded(np.full((200, 200, 3), 90, np.uint8), "PNG")
    answer = search(client, enrolled, COLLINS.read_bytes(), blank)
    assert (answer.status_code, answer.json()["pointer"]) == (422, "/images/1")


def test_what_does_not_go_together(client: httpx.Client, enrolled: str) -> None:
    both = {"image": b64(COLLINS.read_bytes()), "images": [b64(HOPPER.read_bytes())]}
    assert client.post("/search", params={"collection": enrolled}, json=both).status_code == 422
    assert client.post("/search", params={"collection": enrolled}, json={}).status_code == 422
    assert search(client, enrolled, BUS.read_bytes(), COLLINS.read_bytes(), face="all").status_code == 422
    assert search(client, enrolled, *[encoded(np.zeros((32, 32, 3), np.uint8))] * 9).status_code == 422
    form = {"images": COLLINS.read_bytes()}
    assert client.post("/search", params={"collection": enrolled}, data={}, files=form).status_code == 200
