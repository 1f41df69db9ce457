"""A model without a calibration: explicit thresholds work, and everything else says why it does not."""

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from service.runtime.api import create_app
from service.runtime.settings import BUNDLES, load_settings
from tests.conftest import serving
from tests.photos import COLLINS, HOPPER, b64

PICTURES = {"image_a": b64(COLLINS.read_bytes()), "image_b": b64(HOPPER.read_bytes())}


@pytest.fixture(scope="module")
def uncalibrated(postgres_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    bundle = Path(shutil.copytree(BUNDLES / "embedder", tmp_path_factory.mktemp("bundle") / "embedder"))
    manifest = json.loads((bundle / "manifest.json").read_text())
    changes = {"model_id": "uncalibrated-1", "calibration": None, "reference_lengths": []}
    (bundle / "manifest.json").write_text(json.dumps(manifest | changes))
    with serving(create_app(load_settings(database={"url": postgres_url}, embedder={"bundle": bundle}))) as client:
        yield client


def test_an_explicit_threshold_works(uncalibrated: httpx.Client) -> None:
    answer = uncalibrated.post("/verify", json={**PICTURES, "threshold": 0.4}).json()
    assert (answer["match"], answer["fmr"], answer["fmr_interval"]) == (False, None, None)
    assert answer["face_a"]["quality"] is None


def test_a_rate_is_refused(uncalibrated: httpx.Client) -> None:
    document = uncalibrated.post("/verify", json={**PICTURES, "fmr": 1e-3}).json()
    assert document["code"] == "rate_not_calibrated"
    assert "request a `threshold` instead" in document["detail"]


def test_the_model_says_so(uncalibrated: httpx.Client) -> None:
    model = uncalibrated.get("/models").json()["models"][0]
    assert (model["id"], model["calibrated"]) == ("uncalibrated-1", False)
    for address in ("calibration", "calibration/det.svg"):
        response = uncalibrated.get(f"/models/{model['id']}/{address}")
        assert (response.status_code, response.json()["code"]) == (404, "calibration_not_found")


def test_a_person_is_enrolled_without_a_quality(uncalibrated: httpx.Client) -> None:
    assert uncalibrated.post("/collections", json={"name": "uncalibrated"}).status_code == 201
    body = {"label": "c", "images": [PICTURES["image_a"]]}
    assert (
        uncalibrated.post("/register", params={"collection": "uncalibrated"}, json=body).json()["images"][0]["face"][
            "quality"
        ]
        is None
    )
    # Nothing is asked for in this change, so nothing needs to be known.
    assert uncalibrated.patch("/collections/uncalibrated", json={}).status_code == 200
    assert uncalibrated.patch("/collections/uncalibrated", json={"fmr": 0.01}).json()["code"] == "rate_not_calibrated"


def test_a_rule_about_duplicates_is_refused_when_it_is_set(uncalibrated: httpx.Client) -> None:
    refused = uncalibrated.post("/collections", json={"name": "never-made", "duplicates": "reject"})
    assert (refused.status_code, refused.json()["pointer"]) == (422, "/duplicates")
    assert "never-made" not in uncalibrated.get("/collections").text
    assert uncalibrated.patch("/collections/uncalibrated", json={"duplicates": "warn"}).status_code == 422
