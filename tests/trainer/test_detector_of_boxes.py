"""A detector without landmarks: export of its checkpoint, and faces that are cut out as squares."""

import warnings
from pathlib import Path

import numpy as np
import pytest
import torch

from service.inference.detector import YoloFaceDetector
from service.inference.graph import RuntimeOptions
from service.runtime.api import create_app
from service.runtime.settings import BUNDLES, load_settings
from tests.conftest import serving
from tests.photos import COLLINS, HOPPER, b64, brighter, pixels
from trainer.configuration import ConfigError


@pytest.mark.slow
def test_a_checkpoint_of_boxes_alone_is_served_with_square_crops(tmp_path: Path, postgres_url: str) -> None:
    """The checkpoint is the shipped detector without its branch of landmarks.

    The shipped detector's minimum score is meant for faces that its landmark stage has verified. The minimum here is
    higher because no stage verifies the boxes.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ultralytics.nn.modules import Detect
        from ultralytics.nn.tasks import DetectionModel

        from trainer.detector import export, restoration

        model = restoration.restore(BUNDLES / "detector", "yolo11n-pose.yaml", [pixels(COLLINS), pixels(HOPPER)], 320)
        model.__class__, model.model[-1].__class__ = DetectionModel, Detect
        model.names = {0: "face"}
        torch.save({"model": model, "ema": None}, tmp_path / "boxes.pt")
        (tmp_path / "config.yaml").write_text("{}")
        provenance = {"data": ["x"], "terms": "test", "initialised_from": "shipped"}
        files = tmp_path / "boxes.pt", tmp_path / "bundle", "boxes-only", tmp_path / "config.yaml"
        assert export.export(*files, 0.6, provenance).landmarks == 0
        model.names = {0: "face", 1: "cat"}
        torch.save({"model": model, "ema": None}, tmp_path / "boxes.pt")
        with pytest.raises(ConfigError, match="detects face, cat"):
            export.export(*files, 0.6, provenance)
    found = YoloFaceDetector(tmp_path / "bundle", RuntimeOptions()).detect([pixels(COLLINS)])[0][0]
    shipped = YoloFaceDetector(BUNDLES / "detector", RuntimeOptions()).detect([pixels(COLLINS)])[0][0]
    assert found.landmarks is None
    np.testing.assert_allclose(found.box, shipped.box, atol=6)
    settings = load_settings(database={"url": postgres_url}, detector={"bundle": tmp_path / "bundle"})
    with serving(create_app(settings)) as client:
        assert client.post("/collections", json={"name": "boxes", "quality": "off"}).status_code == 201
        query = {"collection": "boxes"}
        body = {"label": "Collins", "image": b64(COLLINS.read_bytes())}
        assert client.post("/register", params=query, json=body).status_code == 201
        body = {"image": b64(brighter(COLLINS, 0.7)), "threshold": 0.5}
        face = client.post("/search", params=query, json=body).json()["results"][0]
        assert face["face"]["landmarks"] is None
        assert face["candidates"][0]["match"]
