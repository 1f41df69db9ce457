"""Tests of a model without calibration: explicit thresholds work, and rates are refused."""

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
    """A service whose embedder has no calibration."""
    bundle = Path(shutil.copytree(BUNDLES / "embedder", tmp_path_factory.mktemp("bundle") / "embedder"))
    manifest = json.loads((bundle / "manifest.json").read_text())
    changes = {"model_id": "uncalibrated-1", "calibration": None, "reference_lengths": []}
    (bundle / "manifest.json").write_text(json.dumps(manifest | changes))
    with serving(create_app(load_settings(database={"url": postgres_url}, embedder={"bundle": bundle}))) as client:
        yield client


def test_explicit_threshold_is_accepted(uncalibrated: httpx.Client) -> None:
    response = uncalibrated.post("/verify", json={**PICTURES, "threshold": 0.4}).json()
    assert (response["match"], response["fmr"], response["fmr_interval"]) == (False, None, None)
    assert response["face_a"]["quality"] is None


def test_rate_is_refused(uncalibrated: httpx.Client) -> None:
    document = uncalibrated.post("/verify", json={**PICTURES, "fmr": 1e-3}).json()
    assert document["code"] == "rate_not_calibrated"
    assert "request a `threshold` instead" in document["detail"]


def test_model_is_listed_as_uncalibrated(uncalibrated: httpx.Client) -> None:
    model = uncalibrated.get("/models").json()["models"][0]
    assert (model["id"], model["calibrated"]) == ("uncalibrated-1", False)
    for address in ("calibration", "calibration/det.svg"):
        response = uncalibrated.get(f"/models/{model['id']}/{address}")
        assert (response.status_code, response.json()["code"]) == (404, "calibration_not_found")


def test_identity_is_enrolled_without_a_quality_score(uncalibrated: httpx.Client) -> None:
    assert uncalibrated.post("/collections", json={"name": "uncalibrated"}).status_code == 201
    body = {"label": "c", "images": [PICTURES["image_a"]]}
    registered = uncalibrated.post("/register", params={"collection": "uncalibrated"}, json=body).json()
    assert registered["images"][0]["face"]["quality"] is None
    # An empty patch sets no rate and needs no calibration.
    assert uncalibrated.patch("/collections/uncalibrated", json={}).status_code == 200
    assert uncalibrated.patch("/collections/uncalibrated", json={"fmr": 0.01}).json()["code"] == "rate_not_calibrated"


def test_duplicate_policy_is_refused(uncalibrated: httpx.Client) -> None:
    refused = uncalibrated.post("/collections", json={"name": "refused-collection", "duplicates": "reject"})
    assert (refused.status_code, refused.json()["pointer"]) == (422, "/duplicates")
    assert "refused-collection" not in uncalibrated.get("/collections").text
    assert uncalibrated.patch("/collections/uncalibrated", json={"duplicates": "warn"}).status_code == 422
