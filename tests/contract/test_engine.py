"""Tests of detector, embedder and local engine with the shipped bundles on both runtimes."""

import subprocess
import sys
from pathlib import Path
from typing import Literal

import cv2
import numpy as np
import pytest

from service.errors import StartupError
from service.inference.bundle import read_embedder
from service.inference.detector import YoloFaceDetector
from service.inference.embedder import FaceEmbedder
from service.inference.engine import Picture
from service.inference.graph import RuntimeOptions
from service.runtime.engines import build_pipeline
from service.runtime.settings import BUNDLES, EmbedderSettings, Settings
from service.vision.image import Pixels
from tests.photos import BUS, COLLINS, HOPPER, TRAINER, brighter, pixels


def crops(count: int) -> list[Pixels]:
    """Returns crops of real faces with random shift, rotation and brightness, at the scale of aligned crops."""
    rng = np.random.default_rng(0)
    boxes = {COLLINS: (168, 56, 279, 184), HOPPER: (176, 120, 380, 344), TRAINER: (911, 102, 1056, 289)}
    results = []
    for number in range(count):
        path = list(boxes)[number % 3]
        x0, y0, x1, y1 = boxes[path]
        scale = 112 / (max(x1 - x0, y1 - y0) * rng.uniform(0.9, 1.2))
        matrix = cv2.getRotationMatrix2D(((x0 + x1) / 2, (y0 + y1) / 2), rng.uniform(-15, 15), scale)
        matrix[:, 2] += 56 - np.array([(x0 + x1) / 2, (y0 + y1) / 2]) + rng.uniform(-5, 5, 2)
        crop = cv2.warpAffine(pixels(path), matrix, (112, 112))
        results.append((crop * rng.uniform(0.6, 1.0)).astype(np.uint8))
    return results  # type: ignore[return-value]


def test_runtimes_give_the_same_embeddings() -> None:
    faces = crops(210)
    openvino = FaceEmbedder(BUNDLES / "embedder", RuntimeOptions("openvino")).embed(faces)
    onnxruntime = FaceEmbedder(BUNDLES / "embedder", RuntimeOptions("onnxruntime")).embed(faces)
    assert (openvino * onnxruntime).sum(axis=1).min() >= 0.999
    np.testing.assert_allclose(np.linalg.norm(openvino, axis=1), 1, atol=1e-5)


def test_runtimes_give_the_same_boxes() -> None:
    pictures = [pixels(path) for path in (COLLINS, HOPPER, TRAINER, BUS)]
    openvino = YoloFaceDetector(BUNDLES / "detector", RuntimeOptions("openvino")).detect(pictures)
    onnxruntime = YoloFaceDetector(BUNDLES / "detector", RuntimeOptions("onnxruntime")).detect(pictures)
    for one, other in zip(openvino, onnxruntime, strict=True):
        np.testing.assert_allclose([face.box for face in one], [face.box for face in other], atol=0.5)


def test_embedding_does_not_depend_on_its_batch() -> None:
    embedder = FaceEmbedder(BUNDLES / "embedder", RuntimeOptions())
    faces = crops(40)
    together = embedder.embed(faces)
    alone = np.concatenate([embedder.embed([face]) for face in faces])
    assert (together * alone).sum(axis=1).min() >= 0.9999


@pytest.mark.parametrize("precision", ["f32", "auto"])
def test_box_does_not_depend_on_its_batch(precision: Literal["f32", "auto"]) -> None:
    detector = YoloFaceDetector(BUNDLES / "detector", RuntimeOptions(precision=precision))
    pictures = [pixels(path) for path in (COLLINS, HOPPER, TRAINER, BUS)]
    pictures += [cv2.resize(picture, (250, 250)) for picture in pictures]  # type: ignore[misc]
    together = detector.detect(pictures)
    for picture, faces in zip(pictures, together, strict=True):
        alone = detector.detect([picture])[0]
        np.testing.assert_allclose([face.box for face in faces], [face.box for face in alone], atol=0.05)
        np.testing.assert_allclose([face.score for face in faces], [face.score for face in alone], atol=1e-4)


@pytest.mark.parametrize("size", [320, 640])
def test_fixed_input_size_is_used(size: int, settings: Settings) -> None:
    detector = YoloFaceDetector(BUNDLES / "detector", RuntimeOptions(), image_size=size)
    assert detector.sizes == [size]
    assert len(detector.detect([pixels(HOPPER)])[0]) >= 1


def test_tiling_detects_small_faces_of_a_large_picture() -> None:
    """Faces of 80 px in 4 megapixels are detected in tiles and not in the scaled-down picture."""
    picture = np.full((1700, 2400, 3), 128, np.uint8)
    small = cv2.resize(pixels(HOPPER), (72, 83), interpolation=cv2.INTER_AREA)
    positions = [(50, 60), (1150, 820), (2320, 1610)]
    for left, top in positions:
        picture[top : top + 83, left : left + 72] = small
    faces = YoloFaceDetector(BUNDLES / "detector", RuntimeOptions(), tiling=True).detect([picture])[0]
    centres = [((face.box[0] + face.box[2]) / 2, (face.box[1] + face.box[3]) / 2) for face in faces]
    assert len(faces) == 3
    for left, top in positions:
        assert any(left < x < left + 72 and top < y < top + 83 for x, y in centres)
    assert YoloFaceDetector(BUNDLES / "detector", RuntimeOptions()).detect([picture])[0] == []


def test_tiling_does_not_change_a_large_face() -> None:
    """A face that crosses the edges of tiles is detected once and completely."""
    picture = cv2.resize(pixels(HOPPER), None, fx=2, fy=2)
    whole = YoloFaceDetector(BUNDLES / "detector", RuntimeOptions()).detect([picture])[0]  # type: ignore[list-item]
    tiling = YoloFaceDetector(BUNDLES / "detector", RuntimeOptions(), tiling=True)
    tiled = tiling.detect([picture])[0]  # type: ignore[list-item]
    assert len(whole) == 1
    left, _, right, bottom = whole[0].box
    in_whole_box = [face for face in tiled if left < (face.box[0] + face.box[2]) / 2 < right and face.box[1] < bottom]
    assert len(in_whole_box) == 1
    np.testing.assert_allclose(whole[0].box, in_whole_box[0].box, atol=1)


def test_onnx_runtime_refuses_bf16() -> None:
    with pytest.raises(StartupError, match="f32 only"):
        FaceEmbedder(BUNDLES / "embedder", RuntimeOptions("onnxruntime", "bf16"))


def test_file_that_is_not_a_graph_is_refused(tmp_path: Path) -> None:
    from service.inference.graph import open_graph

    (tmp_path / "model.onnx").write_bytes(b"not a graph")
    for backend in ("openvino", "onnxruntime"):
        with pytest.raises(StartupError, match="cannot run"):
            open_graph(tmp_path / "model.onnx", 112, RuntimeOptions(backend))  # type: ignore[arg-type]


@pytest.mark.parametrize("bundle", ["embedder", "embedder-fairface"])
def test_shipped_embedders_separate_people_at_their_thresholds(bundle: str, settings: Settings) -> None:
    engine = build_pipeline(settings.model_copy(update={"embedder": EmbedderSettings(bundle=BUNDLES / bundle)}))
    photos = [COLLINS.read_bytes(), brighter(COLLINS, 0.7), HOPPER.read_bytes(), brighter(HOPPER, 1.2)]
    observations = engine.observe_files([Picture(photo) for photo in photos])
    faces = [observation.faces[0] for observation in observations]  # type: ignore[union-attr]
    calibration = read_embedder(BUNDLES / bundle).calibration
    assert calibration is not None
    threshold = calibration.threshold_for(1e-4)
    scores = np.stack([face.embedding for face in faces]) @ np.stack([face.embedding for face in faces]).T
    assert min(scores[0, 1], scores[2, 3]) > threshold > scores[:2, 2:].max()
    assert all(face.quality.score is not None for face in faces)


def test_openvino_telemetry_is_not_loaded() -> None:
    """OpenVINO's Python package depends on a telemetry package that sends usage data by default."""
    program = (
        "import sys\n"
        "from service.runtime.engines import build_pipeline\n"
        "from service.runtime.settings import load_settings\n"
        "build_pipeline(load_settings())\n"
        "assert 'openvino' in sys.modules\n"
        "print([name for name in sys.modules if 'telemetry' in name and sys.modules[name] and 'stub' not in name])"
    )
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert "openvino_telemetry" not in result.stdout
    assert "elemetry" not in result.stderr
