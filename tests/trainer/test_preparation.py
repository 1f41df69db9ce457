import shutil
from pathlib import Path

import numpy as np

from service.inference.detector import YoloFaceDetector
from service.inference.engine import FaceChoice
from service.inference.graph import RuntimeOptions
from service.settings import BUNDLES
from service.vision.alignment import TEMPLATE_112
from service.vision.geometry import letterbox
from tests.photos import BUS, COLLINS, HOPPER
from trainer.embedder.canvases import load_canvases
from trainer.embedder.preparation import prepare


def test_photos_become_canvases_with_the_eyes_in_place(tmp_path: Path) -> None:
    for name, path in {"a": COLLINS, "b": HOPPER, "c": BUS}.items():
        (tmp_path / "photos" / name).mkdir(parents=True)
        shutil.copy(path, tmp_path / "photos" / name / f"1{path.suffix}")
    (tmp_path / "photos" / "a" / "2.jpg").write_bytes(b"no picture")
    detector = YoloFaceDetector(BUNDLES / "detector", RuntimeOptions())
    result = prepare(tmp_path / "photos", tmp_path / "canvases", detector, FaceChoice.ONLY)
    assert result.written == 2
    assert [path.name for path, _ in result.failures] == ["2.jpg", "1.jpg"]
    assert "2 faces" in (tmp_path / "canvases" / "failures.csv").read_text()
    canvases = load_canvases(tmp_path / "canvases", None, tmp_path / "cache")
    assert canvases.identities == ["a", "b"]
    for canvas in canvases.pictures:
        square, boxing = letterbox(np.asarray(canvas), 320)
        (face,) = detector.detect([square])[0][:1]
        assert face.landmarks is not None
        np.testing.assert_allclose(boxing.undo(face.landmarks[:, :2]), TEMPLATE_112 + 24, atol=6)
    again = prepare(tmp_path / "photos", tmp_path / "canvases", detector, FaceChoice.ONLY)
    assert again.written == 2
