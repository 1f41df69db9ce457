"""Draws landmark channels in training and service, moves them with the picture, and serves a model that has them."""

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
from service.inference.local import LocalEngine
from service.runtime.settings import BUNDLES
from service.vision.alignment import TEMPLATE_112, align_with_margin
from service.vision.heatmaps import LandmarkChannels, render, six_points
from service.vision.image import ImageLimits
from tests.photos import COLLINS, pixels
from trainer.configuration import ConfigError
from trainer.embedder import export, training
from trainer.embedder.aligned_crops import AlignedCrops, load_aligned_crops
from trainer.embedder.augmentation import Augmentation, encoder_input
from trainer.embedder.backbones import build_encoder
from trainer.embedder.checkpoints import load_encoder, load_initial
from trainer.embedder.config import AugmentationConfig, EmbedderConfig, LandmarkChannelsConfig
from trainer.embedder.crop_landmarks import named_landmarks, served_landmarks
from trainer.embedder.embedding import embed_crops, embed_pictures
from trainer.embedder.landmark_heatmaps import draw, in_centre, warped
from trainer.finders import DlibLandmarks

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's hints on loaders, loggers and precision

VARIANTS = {
    "groups": LandmarkChannels(),
    "groups without a mask": LandmarkChannels(mask=False, sigma=2.5),
    "points": LandmarkChannels(layout="points", sigma=6.0),
}


def template() -> np.ndarray:
    return six_points(np.column_stack([TEMPLATE_112, np.ones(5)]).astype(np.float32))


def test_heatmap_is_a_gaussian_around_its_point() -> None:
    points = template()
    points[2] = (56.0, 72.0, 1.0)
    planes = render([points, None], 112, LandmarkChannels(sigma=4.0))
    assert planes.shape == (2, 7, 112, 112)
    assert planes[0, 2, 72, 56] == pytest.approx(1.0)
    assert planes[0, 2, 72, 60] == pytest.approx(np.exp(-0.5), abs=1e-5)
    assert planes[0, 2, 76, 60] == pytest.approx(np.exp(-1.0), abs=1e-5)
    assert (planes[0, 6] == 1).all()
    assert not planes[1].any()


def test_chin_lies_below_the_mouth() -> None:
    points = template()
    assert points[5, 0] == pytest.approx(56, abs=1)
    assert points[5, 1] == pytest.approx(92.28 + 0.75 * (92.28 - 51.6), abs=0.1)


@pytest.mark.parametrize("name", VARIANTS)
@pytest.mark.parametrize("size", [64, 112])
def test_training_and_service_draw_the_same_channels(name: str, size: int) -> None:
    channels = VARIANTS[name]
    points = np.stack([template() * np.float32([size / 112, size / 112, 1]), np.zeros((6, 3), np.float32)])
    points[0, 1, 2] = 0  # unknown
    drawn = draw(torch.from_numpy(points), size, channels).numpy()
    np.testing.assert_allclose(drawn, render(list(points), size, channels), atol=1e-5)


def test_landmarks_move_with_their_picture() -> None:
    """Draws a bright dot at each landmark and finds it at the moved landmark after the augmentation."""
    torch.manual_seed(0)
    config = AugmentationConfig(
        rotation_degrees=25, shift=0.1, scale=0.2, flip=0.5, light=0, greyscale=0, low_resolution=0, occlusion=0
    )
    augmentation = Augmentation(config)
    count = 12
    points = torch.rand(count, 6, 3) * 70 + 45
    points[..., 2] = 1
    crops = torch.zeros(count, 160, 160, 3, dtype=torch.uint8)
    for number in range(count):
        for place in range(6):
            dot = np.zeros((160, 160), np.float32)
            x, y = points[number, place, :2].tolist()
            grid = np.mgrid[0:160, 0:160]
            dot = 255 * np.exp(-((grid[0] - y) ** 2 + (grid[1] - x) ** 2) / 8)
            crops[number, :, :, 0] = torch.maximum(crops[number, :, :, 0], torch.from_numpy(dot).to(torch.uint8))
    theta = augmentation._draw_warp(count, torch.device("cpu"))
    pictures = augmentation._warp(crops.permute(0, 3, 1, 2).float(), theta)[:, 0]
    moved = warped(points, theta, 112)
    checked = 0
    for number in range(count):
        for x, y, _ in moved[number].tolist():
            if 2 < x < 109 and 2 < y < 109:
                assert float(pictures[number, round(y), round(x)]) > 180
                checked += 1
    assert checked > count * 4


def test_mirror_picture_exchanges_left_and_right() -> None:
    theta = torch.tensor([[[-0.7, 0, 0], [0, 0.7, 0]]])
    points = torch.from_numpy(template() + np.float32([24, 24, 0]))[None]
    moved = warped(points, theta, 112)[0]
    original = torch.from_numpy(template())
    for place, other in enumerate((1, 0, 2, 4, 3, 5)):
        assert float(moved[place, 0]) == pytest.approx(111 - float(original[other, 0]), abs=1e-3)
        assert float(moved[place, 1]) == pytest.approx(float(original[other, 1]), abs=1e-3)
    assert float(moved[0, 0]) < float(moved[1, 0])  # the left eye is still on the left


def test_augmentation_with_zero_ranges_equals_the_encoder_input() -> None:
    still = AugmentationConfig(
        rotation_degrees=0, shift=0, scale=0, flip=0, light=0, greyscale=0, low_resolution=0, occlusion=0
    )
    channels = LandmarkChannelsConfig(missing=0)
    crops = torch.randint(0, 256, (2, 160, 160, 3), dtype=torch.uint8)
    points = torch.from_numpy(template() + np.float32([24, 24, 0]))[None].repeat(2, 1, 1)
    config = run_config(LandmarkChannels())
    changed = Augmentation(still, 112, channels=channels)(crops, points)
    torch.testing.assert_close(changed, encoder_input(crops, points, config), atol=2e-4, rtol=0)
    torch.testing.assert_close(in_centre(points, 112)[0], torch.from_numpy(template()), atol=1e-4, rtol=0)
    without = Augmentation(still, 112, channels=LandmarkChannelsConfig(missing=1))(crops, points)
    assert not without[:, 3:].any()


def test_additional_channels_start_with_the_mean_of_the_colours(tmp_path: Path) -> None:
    torch.manual_seed(0)
    plain = build_encoder("resnet18", 8)
    torch.save(plain.backbone.state_dict(), tmp_path / "plain.pth")
    wide = build_encoder("resnet18", 8, more_channels=7)
    load_initial(wide, tmp_path / "plain.pth")
    weight, colours = wide.backbone.conv1.weight, plain.backbone.conv1.weight
    torch.testing.assert_close(weight[:, :3], colours)
    torch.testing.assert_close(weight[:, 3:], colours.mean(dim=1, keepdim=True).expand(-1, 7, -1, -1))
    for name in ("mobilefacenet", "residual_small", "timm:convnextv2_atto", "vit_b_16", "squeezenet1_0"):
        encoder = build_encoder(name, 8, more_channels=7).eval()
        with torch.inference_mode():
            assert encoder(torch.zeros(1, 10, 112, 112)).shape == (1, 8)


def run_config(channels: LandmarkChannels) -> EmbedderConfig:
    stage = {
        "name": "one",
        "epochs": 2,
        "batch_size": 8,
        "images_per_identity": 4,
        "learning_rate": 1e-3,
        "losses": {"triplet": 1.0},
    }
    return EmbedderConfig.model_validate(
        {
            "backbone": "residual_small",
            "embedding_dim": 8,
            "compile": False,
            "precision": "32-true",
            "mirror_average": channels.mask,
            "landmark_channels": channels.model_dump(),
            "split": {"validation": 0.0, "calibration": 0.0},
            "stages": [stage],
        }
    )


@pytest.fixture(scope="module")
def crops(identity_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AlignedCrops:
    return load_aligned_crops(identity_folder, None, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def detector() -> YoloFaceDetector:
    return YoloFaceDetector(BUNDLES / "detector", RuntimeOptions())


@pytest.mark.parametrize("name", VARIANTS)
def test_service_serves_a_model_with_landmark_channels(
    name: str, crops: AlignedCrops, detector: YoloFaceDetector, tmp_path: Path
) -> None:
    config = run_config(VARIANTS[name])
    points = served_landmarks(crops)
    assert (points[:, :, 2] > 0).all(axis=1).mean() > 0.8
    best = training.train(config, crops, None, tmp_path / "cache", tmp_path / "run")
    provenance = {"data": ["x"], "terms": "test", "initialised_from": "random"}
    manifest = export.export(best, tmp_path / "bundle", "landmarks-test", provenance)
    assert manifest.landmark_channels == VARIANTS[name]
    embedder = FaceEmbedder(tmp_path / "bundle", RuntimeOptions())
    encoder, _ = load_encoder(best)
    # The engine's embedding of a photo equals the encoder's embedding of the crop with its heatmaps.
    engine = LocalEngine(detector, [embedder], ImageLimits())
    [observation] = engine.observe_now([Picture(COLLINS.read_bytes(), FaceChoice.LARGEST, keep_crop=True)])
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
    [alone] = engine.observe_now([Picture(stored.tobytes(), cropped=True)])
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
            order = [0, 1, 2, *(3 + place for place in config.landmark_channels.mirrored)]
            mirrored = torch.nn.functional.normalize(encoder(pixels[:, order].flip(-1)))
            embedding = torch.nn.functional.normalize(embedding + mirrored)
    return embedding[0].numpy()


def test_missing_landmark_finder_is_rejected(crops: AlignedCrops, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--landmarks-file"):
        named_landmarks(crops, "dlib", None)
    with pytest.raises(ConfigError, match="contains no shape predictor"):
        named_landmarks(crops, "dlib", tmp_path / "shape_predictor_68_face_landmarks.dat")
    (tmp_path / "other.dat").write_bytes(b"something else")
    with pytest.raises(ConfigError, match="not a shape predictor"):
        DlibLandmarks(tmp_path / "other.dat")
    with pytest.raises(ConfigError, match="choose one of"):
        named_landmarks(crops, "stasm", None)


@pytest.mark.parametrize("name", ["dlib", "mediapipe"])
def test_other_finders_agree_with_the_shipped_detector(name: str, crops: AlignedCrops) -> None:
    variable = {"dlib": "DLIB_PREDICTOR", "mediapipe": "MEDIAPIPE_MODEL"}[name]
    if variable not in os.environ:
        pytest.skip(f"{variable}= names no model file")
    shipped, other = served_landmarks(crops), named_landmarks(crops, name, Path(os.environ[variable]))
    both = (shipped[:, 0, 2] > 0) & (other[:, 0, 2] > 0)
    assert both.mean() > 0.5
    eyes = np.linalg.norm(shipped[both, 0, :2] - shipped[both, 1, :2], axis=1)
    distances = np.linalg.norm(shipped[both, :5, :2] - other[both, :5, :2], axis=2).mean(axis=1)
    assert float(np.median(distances / eyes)) < 0.2
