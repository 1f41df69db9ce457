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
MIN_SCORE = 0.6

pytestmark = pytest.mark.skipif(not (YUNET.exists() and SFACE.exists()), reason="MODELS= names no folder with models")


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    output = tmp_path_factory.mktemp("imported")
    arguments = ["models", "import", str(YUNET), str(SFACE), "--model-id", "sface-1", "--output", str(output)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.exception
    return output


@pytest.mark.parametrize("photo", [COLLINS, HOPPER, BUS], ids=lambda path: path.stem)
def test_yunet_finds_the_faces_that_opencv_finds(imported: Path, photo: Path) -> None:
    """OpenCV pads pictures to multiples of 32 pixels; this picture needs no padding and no scaling."""
    picture = np.asarray(Image.open(photo).convert("RGB"))
    scale = 640 / max(picture.shape)
    width, height = (round(side * scale / 32) * 32 for side in picture.shape[1::-1])
    picture = np.asarray(cv2.resize(picture, (width, height)), np.uint8)
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


def _from_left(faces: list[Detection]) -> list[Detection]:
    return sorted(faces, key=lambda face: face.box[0])
