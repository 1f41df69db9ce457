"""Tests of imported public models against the reference implementations; MODELS= names a folder with their files."""

import os
from pathlib import Path

import cv2
import numpy as np
import onnxruntime
import pytest
from PIL import Image
from typer.testing import CliRunner

from service.__main__ import app
from service.inference.detector import YoloFaceDetector
from service.inference.embedder import FaceEmbedder
from service.inference.engine import Detection
from service.inference.graph import RuntimeOptions
from tests.photos import BUS, COLLINS, HOPPER

FOLDER = Path(os.environ.get("MODELS") or "missing")
YUNET, SFACE = FOLDER / "yunet.onnx", FOLDER / "sface-int8.onnx"
SCRFD, MOBILEFACENET = FOLDER / "scrfd_2.5g_bnkps.onnx", FOLDER / "mobilefacenet-teacher.onnx"
FILES = (YUNET, SFACE, SCRFD, MOBILEFACENET)
MIN_SCORE, MAX_IOU = 0.6, 0.4
STRIDES = (8, 16, 32)

pytestmark = pytest.mark.skipif(not all(map(Path.exists, FILES)), reason="MODELS= names no folder with models")


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_models(tmp_path_factory.mktemp("imported"), YUNET, SFACE)


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return import_models(tmp_path_factory.mktemp("others"), SCRFD, MOBILEFACENET, "--scaling", "127.5/128")


def import_models(output: Path, *words: Path | str) -> Path:
    arguments = ["models", "import", *map(str, words), "--model-id", "imported-1", "--output", str(output)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.exception
    return output


def resized(photo: Path) -> np.ndarray:
    """Returns the photo with sides that are multiples of 32, so that no detector pads or scales it."""
    picture = np.asarray(Image.open(photo).convert("RGB"))
    scale = 640 / max(picture.shape)
    width, height = (round(side * scale / 32) * 32 for side in picture.shape[1::-1])
    return np.asarray(cv2.resize(picture, (width, height)), np.uint8)


@pytest.mark.parametrize("photo", [COLLINS, HOPPER, BUS], ids=lambda path: path.stem)
def test_yunet_finds_the_faces_that_opencv_finds(imported: Path, photo: Path) -> None:
    picture = resized(photo)
    height, width = picture.shape[:2]
    reference = cv2.FaceDetectorYN.create(str(YUNET), "", (width, height), MIN_SCORE, 0.3, 5000)
    _, rows = reference.detect(np.ascontiguousarray(picture[..., ::-1]))
    [found] = YoloFaceDetector(imported / "detector", RuntimeOptions()).propose([picture], MIN_SCORE)
    assert len(found) == len(rows) > 0
    for face, row in zip(_from_left(found), sorted(rows, key=lambda row: row[0]), strict=True):
        box = [row[0], row[1], row[0] + row[2], row[1] + row[3]]
        assert face.box == pytest.approx(np.clip(box, 0, [width, height, width, height]), abs=1)
        assert face.landmarks is not None
        assert face.landmarks[:, :2] == pytest.approx(row[4:14].reshape(5, 2), abs=1)
        assert face.score == pytest.approx(row[14], abs=1e-3)


def test_sface_returns_the_embeddings_of_the_published_file(imported: Path) -> None:
    faces = [np.asarray(Image.open(photo).convert("RGB").resize((112, 112))) for photo in (COLLINS, HOPPER)]
    session = onnxruntime.InferenceSession(str(SFACE), providers=["CPUExecutionProvider"])
    blobs = [cv2.dnn.blobFromImage(face[..., ::-1], 1, (112, 112), (0, 0, 0), True) for face in faces]
    expected = np.concatenate([session.run(None, {"data": blob})[0] for blob in blobs])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    embeddings = FaceEmbedder(imported / "embedder", RuntimeOptions()).embed(faces)
    assert (embeddings * expected).sum(axis=1).min() > 0.9999


@pytest.mark.parametrize("photo", [COLLINS, HOPPER, BUS], ids=lambda path: path.stem)
def test_scrfd_finds_the_faces_of_an_independent_decoder(others: Path, photo: Path) -> None:
    picture = resized(photo)
    rows = scrfd_rows(picture)
    [found] = YoloFaceDetector(others / "detector", RuntimeOptions()).propose([picture], MIN_SCORE)
    assert len(found) == len(rows) > 0
    height, width = picture.shape[:2]
    for face, row in zip(_from_left(found), rows[rows[:, 0].argsort()], strict=True):
        assert face.box == pytest.approx(np.clip(row[:4], 0, [width, height, width, height]), abs=1)
        assert face.landmarks is not None
        assert face.landmarks[:, :2] == pytest.approx(row[5:].reshape(5, 2), abs=1)
        assert face.score == pytest.approx(row[4], abs=1e-3)


def scrfd_rows(picture: np.ndarray) -> np.ndarray:
    """Returns (n, 15) boxes as corners, scores and landmarks by ONNX Runtime, OpenCV and the rules of the paper.

    Guo et al., "Sample and Computation Redistribution for Efficient Face Detection", ICLR 2022: each output cell of a
    stride has two anchors at its corner; boxes are the distances to the four sides, landmarks are offsets, in strides.
    """
    height, width = picture.shape[:2]
    session = onnxruntime.InferenceSession(str(SCRFD), providers=["CPUExecutionProvider"])
    blob = cv2.dnn.blobFromImage(picture[..., ::-1], 1 / 128, (width, height), (127.5,) * 3, swapRB=True)
    outputs = session.run(None, {session.get_inputs()[0].name: blob})
    rows = []
    for level, stride in enumerate(STRIDES):
        scores, sides, offsets = (outputs[level + 3 * part].reshape(-1, size) for part, size in enumerate((1, 4, 10)))
        down, across = np.mgrid[: height // stride, : width // stride] * stride
        anchors = np.repeat(np.stack([across, down], axis=-1).reshape(-1, 2), 2, axis=0)
        corners = np.hstack([anchors - sides[:, :2] * stride, anchors + sides[:, 2:] * stride])
        points = np.tile(anchors, 5) + offsets * stride
        rows.append(np.hstack([corners, scores, points])[scores[:, 0] >= MIN_SCORE])
    candidates = np.concatenate(rows)
    boxes = np.hstack([candidates[:, :2], candidates[:, 2:4] - candidates[:, :2]])
    kept = cv2.dnn.NMSBoxes(boxes.tolist(), candidates[:, 4].tolist(), MIN_SCORE, MAX_IOU)
    return candidates[np.asarray(kept).ravel()]


def test_mobilefacenet_returns_the_embeddings_of_the_published_file(others: Path) -> None:
    faces = [np.asarray(Image.open(photo).convert("RGB").resize((112, 112))) for photo in (COLLINS, HOPPER)]
    session = onnxruntime.InferenceSession(str(MOBILEFACENET), providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    blobs = [cv2.dnn.blobFromImage(face[..., ::-1], 1 / 128, (112, 112), (127.5,) * 3, True) for face in faces]
    expected = np.concatenate([session.run(None, {name: blob})[0] for blob in blobs])
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    embeddings = FaceEmbedder(others / "embedder", RuntimeOptions()).embed(faces)
    assert (embeddings * expected).sum(axis=1).min() > 0.9999


def _from_left(faces: list[Detection]) -> list[Detection]:
    return sorted(faces, key=lambda face: face.box[0])
