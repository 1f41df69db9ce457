"""Serves models that have landmark channels, and trains with the landmarks of other finders."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from service.inference.detector import YoloFaceDetector
from service.inference.embedder import FaceEmbedder
from service.inference.engine import FaceChoice, Picture
from service.inference.graph import RuntimeOptions
from service.inference.pipeline import FacePipeline
from service.vision.alignment import align_with_margin
from service.vision.heatmaps import six_points
from tests.photos import COLLINS, pixels
from tests.trainer.landmark_channels import VARIANTS, run_config
from trainer.choices import LandmarkFinderName
from trainer.configuration import ConfigError
from trainer.embedder import export, training
from trainer.embedder.aligned_crops import AlignedCrops, load_aligned_crops
from trainer.embedder.checkpoints import load_encoder
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.crop_landmarks import named_landmarks, served_landmarks
from trainer.embedder.embedding import embed_crops, embed_pictures
from trainer.embedder.landmark_heatmaps import draw
from trainer.finders import DlibLandmarks

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's hints on loaders, loggers and precision


@pytest.fixture(scope="module")
def crops(identity_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AlignedCrops:
    return load_aligned_crops(identity_folder, None, tmp_path_factory.mktemp("cache"))


@pytest.mark.parametrize("name", VARIANTS)
def test_service_serves_a_model_with_landmark_channels(
    name: str, crops: AlignedCrops, detector: YoloFaceDetector, tmp_path: Path
) -> None:
    config = run_config(VARIANTS[name])
    points = served_landmarks(crops)
    assert (points[:, :, 2] > 0).all(axis=1).mean() > 0.8
    best = training.train(config, crops, (), tmp_path / "cache", tmp_path / "run")
    provenance = {"data": ["x"], "terms": "test", "initialised_from": "random"}
    manifest = export.export(best, tmp_path / "bundle", "landmarks-test", provenance)
    assert manifest.landmark_channels == VARIANTS[name]
    embedder = FaceEmbedder(tmp_path / "bundle", RuntimeOptions())
    encoder, _ = load_encoder(best)
    # The engine's embedding of a photo equals the encoder's embedding of the crop with its heatmaps.
    engine = FacePipeline(detector, [embedder])
    [observation] = engine.observe_files([Picture(COLLINS.read_bytes(), FaceChoice.LARGEST, keep_crop=True)])
    (face,) = observation.faces
    assert face.detection.landmarks is not None
    crop = cv2.imdecode(np.frombuffer(face.crop, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
    six = six_points(face.detection.landmarks)
    _, transform = align_with_margin(pixels(COLLINS), face.detection.landmarks, 112, 0)
    six[:, :2] = six[:, :2] @ transform[:, :2].T + transform[:, 2]
    expected = eager(encoder, config, crop, six)
    assert float(expected @ face.embedding) > 0.9999
    # A submitted crop has no landmarks and is embedded without them.
    ok, stored = cv2.imencode(".png", crop[..., ::-1])
    assert ok
    [alone] = engine.observe_files([Picture(stored.tobytes(), cropped=True)])
    assert float(eager(encoder, config, crop, np.zeros((6, 3), np.float32)) @ alone.faces[0].embedding) > 0.9999
    # Calibration embeds aligned crops with the landmarks that the service would find.
    embedded, _ = embed_crops(embedder, crops, [0, 13])
    for row, embedding in zip((0, 13), embedded, strict=True):
        centre = np.asarray(crops.pictures[row])[24:136, 24:136]
        moved = points[row] - np.float32([24, 24, 0]) * (points[row, :, 2:] > 0)
        assert float(eager(encoder, config, centre, moved) @ embedding) > 0.9999
    alone, _ = embed_pictures(embedder, np.asarray(crops.pictures[[0, 13]]), detector)
    assert ((alone * embedded).sum(axis=1) > 0.9999).all()
    [mirrored], _ = embed_crops(embedder, crops, [0], mirrored=True)
    flipped = np.asarray(crops.pictures[0])[24:136, 24:136][:, ::-1]
    moved = (points[0] - np.float32([24, 24, 0]))[[1, 0, 2, 4, 3, 5]]
    moved[:, 0] = 111 - moved[:, 0]
    assert float(eager(encoder, config, flipped, moved) @ mirrored) > 0.9999


def eager(encoder: torch.nn.Module, config: EmbedderConfig, crop: np.ndarray, six: np.ndarray) -> np.ndarray:
    assert config.landmark_channels is not None
    colours = (torch.from_numpy(np.ascontiguousarray(crop)).permute(2, 0, 1)[None].float() - 127.5) / 128
    pixels = torch.cat([colours, draw(torch.from_numpy(six)[None], 112, config.landmark_channels)], dim=1)
    with torch.inference_mode():
        embedding = torch.nn.functional.normalize(encoder(pixels))
        if config.mirror_average:
            order = [0, 1, 2, *(3 + place for place in config.landmark_channels.served.mirrored)]
            mirrored = torch.nn.functional.normalize(encoder(pixels[:, order].flip(-1)))
            embedding = torch.nn.functional.normalize(embedding + mirrored)
    return embedding[0].numpy()


def test_missing_landmark_finder_is_rejected(crops: AlignedCrops, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--landmarks-file"):
        named_landmarks(crops, LandmarkFinderName.DLIB, None)
    with pytest.raises(ConfigError, match="contains no shape predictor"):
        named_landmarks(crops, LandmarkFinderName.DLIB, tmp_path / "shape_predictor_68_face_landmarks.dat")
    (tmp_path / "other.dat").write_bytes(b"something else")
    with pytest.raises(ConfigError, match="not a shape predictor"):
        DlibLandmarks(tmp_path / "other.dat")


@pytest.mark.parametrize("name", ["dlib", "mediapipe"])
def test_other_finders_agree_with_the_shipped_detector(name: str, crops: AlignedCrops) -> None:
    variable = {"dlib": "DLIB_PREDICTOR", "mediapipe": "MEDIAPIPE_MODEL"}[name]
    if variable not in os.environ:
        pytest.skip(f"{variable}= names no model file")
    shipped, other = (
        served_landmarks(crops),
        named_landmarks(crops, LandmarkFinderName(name), Path(os.environ[variable])),
    )
    both = (shipped[:, 0, 2] > 0) & (other[:, 0, 2] > 0)
    assert both.mean() > 0.5
    eyes = np.linalg.norm(shipped[both, 0, :2] - shipped[both, 1, :2], axis=1)
    distances = np.linalg.norm(shipped[both, :5, :2] - other[both, :5, :2], axis=2).mean(axis=1)
    assert float(np.median(distances / eyes)) < 0.2
