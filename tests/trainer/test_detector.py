"""Tests of the detector's training, restoration from a bundle, export and metrics."""

import shutil
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from service.inference.bundle import read_detector
from service.inference.detector import YoloFaceDetector
from service.inference.engine import Detection, FaceChoice
from service.inference.graph import RuntimeOptions, open_graph
from service.runtime.settings import BUNDLES
from service.vision.geometry import iou, letterbox
from tests.photos import COLLINS, HOPPER, encoded, pixels
from trainer.archives import unpack
from trainer.configuration import ConfigError
from trainer.detector.config import DetectorConfig
from trainer.detector.evaluation import detect_split, detection_metrics, metrics_by_size
from trainer.finders import UltralyticsCheckpoint
from trainer.options import CONFIGS

FACES = {COLLINS: (168, 56, 279, 184), HOPPER: (176, 120, 380, 344)}


@pytest.fixture(scope="session")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a data set in Ultralytics' pose format with two pictures in each split."""
    folder = tmp_path_factory.mktemp("detection")
    for split in ("train", "val"):
        (folder / "images" / split).mkdir(parents=True)
        (folder / "labels" / split).mkdir(parents=True)
        for path, (x0, y0, x1, y1) in FACES.items():
            height, width = pixels(path).shape[:2]
            (folder / "images" / split / f"{path.stem}.jpg").write_bytes(encoded(pixels(path), quality=90))
            box = [(x0 + x1) / 2 / width, (y0 + y1) / 2 / height, (x1 - x0) / width, (y1 - y0) / height]
            points = [(0.35, 0.4), (0.7, 0.4), (0.5, 0.6), (0.38, 0.75), (0.66, 0.75)]
            marks = [f"{(x0 + u * (x1 - x0)) / width:.5f} {(y0 + v * (y1 - y0)) / height:.5f} 2" for u, v in points]
            label = " ".join(["0", *(f"{value:.5f}" for value in box), *marks])
            (folder / "labels" / split / f"{path.stem}.txt").write_text(label + "\n")
    (folder / "dataset.yaml").write_text(
        "path: .\ntrain: images/train\nval: images/val\nnames: {0: face}\n"
        "kpt_shape: [5, 3]\nflip_idx: [1, 0, 2, 4, 3]\n"
    )
    return folder


@pytest.mark.slow
def test_a_trained_checkpoint_is_exported_and_detects(data: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trainer.detector import export, training

        config = DetectorConfig(image_size=96, epochs=1, batch_size=2, workers=0, epochs_without_mosaic=0)
        best = training.train(config, data, None, tmp_path / "run")
        settings = tmp_path / "config.yaml"
        settings.write_text("epochs: 1\n")
        provenance = {"data": ["two pictures"], "terms": "test", "initialised_from": "random"}
        manifest = export.export(best, tmp_path / "bundle", "tiny-detector", settings, 0.3, provenance)
    assert manifest.landmarks == 5
    detections = YoloFaceDetector(tmp_path / "bundle", RuntimeOptions(), image_size=320).detect([pixels(COLLINS)])
    assert isinstance(detections[0], list)
    assert (data / "dataset.yaml").read_text().startswith("path: .")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        by_ultralytics = UltralyticsCheckpoint(best, image_size=96, min_score=0.001).detect([pixels(COLLINS)])[0]
    assert all(face.landmarks is not None and face.landmarks.shape == (5, 3) for face in by_ultralytics)
    with pytest.raises(FileNotFoundError, match="cannot resume"):
        training.train(config, data, None, tmp_path / "other", resume=True)


@pytest.mark.slow
def test_a_restored_model_equals_the_graph_and_trains(data: Path, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trainer.detector import restoration, training

        bundle = BUNDLES / "detector"
        pictures = [pixels(COLLINS), pixels(HOPPER)]
        model = restoration.restore(bundle, "yolo11n-pose.yaml", pictures, 320)
        squares = np.stack([letterbox(picture, 320)[0] for picture in pictures])
        tensor = np.ascontiguousarray(squares.transpose(0, 3, 1, 2).astype(np.float32) / 255)
        graph = open_graph(bundle / read_detector(bundle).graph, 320, RuntimeOptions(precision="f32"))
        with torch.inference_mode():
            outputs = model.eval()(torch.from_numpy(tensor))[0].numpy()
        np.testing.assert_allclose(outputs, graph.run(tensor), atol=5e-3)

        config = DetectorConfig(image_size=96, epochs=1, batch_size=2, workers=0, epochs_without_mosaic=0)
        initial = restoration.restored_checkpoint(bundle, config, data, tmp_path / "run")
        best = training.train(config, data, initial, tmp_path / "run")
    assert UltralyticsCheckpoint(best, image_size=320).detect([pixels(COLLINS)])[0][0].score > 0.3
    with pytest.raises(ConfigError, match="the graph is not a yolo11s-pose"):
        restoration.restore(bundle, "yolo11s-pose.yaml", pictures, 320)


def test_the_shipped_detector_detects_both_faces(data: Path) -> None:
    detector = YoloFaceDetector(BUNDLES / "detector", RuntimeOptions(), min_score=0.02)
    measured = detection_metrics(detect_split(detector, data, "val"))
    assert measured.faces == 2
    assert measured.ap50 == pytest.approx(1)


def test_a_missing_split_raises_an_error_that_lists_the_splits(data: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no split 'test'; its splits are: train, val"):
        detect_split(Scripted(), data, "test")


class Scripted:
    """Returns the same detections, given as (x_min, y_min, x_max, y_max, score), for every picture."""

    def __init__(self, *detections: tuple[float, float, float, float, float]) -> None:
        self._detections = [Detection(item[:4], item[4], None) for item in detections]

    def detect(self, pictures: Sequence[np.ndarray]) -> list[list[Detection]]:
        return [self._detections for _ in pictures]


def test_average_precision_of_a_worked_example(tmp_path: Path) -> None:
    """Hit, false alarm, hit on two faces gives 1/2 + 1/2 * 2/3; a third face is too small to count."""
    (tmp_path / "images" / "x").mkdir(parents=True)
    (tmp_path / "labels" / "x").mkdir(parents=True)
    (tmp_path / "images" / "x" / "a.png").write_bytes(encoded(np.zeros((400, 400, 3), np.uint8), "PNG"))
    boxes = [(0.125, 0.125, 0.25, 0.25), (0.625, 0.625, 0.25, 0.25), (0.9, 0.1, 0.025, 0.025)]
    lines = ["0 " + " ".join(map(str, box)) for box in boxes]
    (tmp_path / "labels" / "x" / "a.txt").write_text("\n".join(lines))
    detector = Scripted(
        (0, 0, 100, 100, 0.9), (0, 300, 100, 400, 0.8), (200, 200, 300, 300, 0.7), (355, 35, 365, 45, 0.95)
    )
    results = detect_split(detector, tmp_path, "x")
    measured = detection_metrics(results)
    assert measured.faces == 2
    assert measured.ap50 == pytest.approx(0.5 + 0.5 * 2 / 3)
    assert measured.recall_at_precision_90 == pytest.approx(0.5)
    assert measured.at(0.75) == (0.5, 0.5)
    assert measured.at(0.95) == (1.0, 0.0)
    assert measured.best_score() == pytest.approx(0.7)
    bands = metrics_by_size(results)
    assert [bands[name].faces for name in bands] == [0, 0, 2, 0]
    assert bands["64-128 px"].ap50 == measured.ap50


def test_average_precision_without_detections_is_zero(data: Path) -> None:
    assert detection_metrics(detect_split(Scripted(), data, "val")).ap50 == 0


def test_archives_and_folders_are_merged(tmp_path: Path) -> None:
    import zipfile

    for name in ("one", "two"):
        with zipfile.ZipFile(tmp_path / f"{name}.zip", "w") as archive:
            archive.writestr(f"{name}.txt", name)
    folder = unpack([tmp_path / "one.zip", tmp_path / "two.zip"], tmp_path / "out")
    assert {path.name for path in folder.glob("*.txt")} == {"one.txt", "two.txt"}
    assert unpack([tmp_path / "out"], tmp_path / "elsewhere") == tmp_path / "out"
    with pytest.raises(ConfigError, match="does not exist"):
        unpack([tmp_path / "nothing.zip"], tmp_path / "out")
    (tmp_path / "bad.zip").write_text("no archive")
    with pytest.raises(ValueError, match="neither"):
        unpack([tmp_path / "bad.zip"], tmp_path / "out")
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        archive.writestr("../evil.txt", "x")
    with pytest.raises(ValueError, match="leads out of the archive"):
        unpack([tmp_path / "evil.zip"], tmp_path / "out")


def test_unknown_keys_and_invalid_sizes_are_rejected() -> None:
    with pytest.raises(ValidationError):
        DetectorConfig.model_validate({"imgsz": 640})
    with pytest.raises(ValidationError):
        DetectorConfig.model_validate({"image_size": 417})


@pytest.mark.slow
def test_a_first_look_is_added_to_a_bundle_and_does_not_change_what_is_detected(data: Path, tmp_path: Path) -> None:
    """A first look that has learned nothing finds no face, and the bundle's detector decides."""
    bundle = tmp_path / "bundle"
    shutil.copytree(BUNDLES / "detector", bundle)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from trainer.detector import export, training

        config = DetectorConfig(
            architecture="first-look.yaml", image_size=96, epochs=1, batch_size=2, workers=0, epochs_without_mosaic=0
        )
        best = training.train(config, data, None, tmp_path / "run")
        settings = CONFIGS / "detector-first-look.yaml"
        manifest = export.add_first_look(best, settings, bundle)
        assert export.add_first_look(best, settings, bundle).files == manifest.files
    assert manifest.first_look is not None
    assert set(manifest.graphs) == {"model.onnx", "landmarks.onnx", "first-look.onnx"}
    choices = [FaceChoice.STRONGEST, FaceChoice.ALL]
    pictures = [pixels(COLLINS), pixels(COLLINS)]
    results = [
        [faces[0].box for faces in YoloFaceDetector(folder, RuntimeOptions()).detect(pictures, choices)]
        for folder in (bundle, BUNDLES / "detector")
    ]
    np.testing.assert_allclose(results[0][1], results[1][1])
    assert iou(np.array(results[0][0], np.float32), np.array([results[1][0]], np.float32))[0] > 0.6
