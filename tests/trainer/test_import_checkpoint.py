"""Public PyTorch checkpoints as bundles: `identity-trainer import-checkpoint`."""

import pickle
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from facenet_pytorch import InceptionResnetV1
from PIL import Image
from typer.testing import CliRunner

from service.__main__ import app as service_app
from service.inference.bundle import read_detector
from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions
from service.runtime.settings import BUNDLES
from tests.photos import COLLINS, HOPPER, pixels
from trainer.__main__ import app
from trainer.importing.checkpoints import MAX_PICKLE_BYTES, Kind, kind_of

SIDE = 320


def run(*words: object) -> str:
    result = CliRunner().invoke(app, ["import-checkpoint", *map(str, words)])
    return result.output if result.exception is None else str(result.exception)


@pytest.fixture(scope="module")
def facenet() -> InceptionResnetV1:
    """Has random weights, as the published ones need the internet."""
    torch.manual_seed(0)
    return InceptionResnetV1(classify=True, num_classes=10)


def test_facenet_weights_compute_what_the_library_computes(
    facenet: InceptionResnetV1, identity_folder: Path, tmp_path: Path
) -> None:
    """The file has the weights of a parallel training, with a classifier, inside the state of the training."""
    crops = [np.asarray(Image.open(path).convert("RGB")) for path in sorted(identity_folder.glob("*/*"))[:6]]
    planes = (torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float() - 127.5) / 128
    with torch.inference_mode():
        facenet.train()(planes)  # statistics of real faces for the batch norms
    state = {f"module.{name}": value for name, value in facenet.state_dict().items()}
    torch.save({"state_dict": state, "epoch": 3}, tmp_path / "weights.pt")
    output = run(tmp_path / "weights.pt", "--model-id", "facenet-512", "--output", tmp_path / "imported")
    assert "identity-trainer calibrate" in output
    embedder = FaceEmbedder(tmp_path / "imported" / "embedder", RuntimeOptions())
    assert embedder.manifest.provenance.initialised_from.startswith("weights.pt, SHA-256 ")
    facenet.classify = False
    with torch.inference_mode():
        expected = facenet.eval()(planes).numpy()
    assert (embedder.embed(crops) * expected).sum(axis=1).min() > 0.9999


@pytest.mark.slow
@pytest.mark.parametrize("landmarks", [5, 0])
def test_detector_of_ultralytics_finds_the_boxes_that_the_library_finds(landmarks: int, tmp_path: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from ultralytics.nn.modules import Detect
        from ultralytics.nn.tasks import DetectionModel

        from trainer.detector import restoration

        photos = [pixels(COLLINS), pixels(HOPPER)]
        model: Any = restoration.restore(BUNDLES / "detector", "yolo11n-pose.yaml", photos, SIDE)
        if not landmarks:
            model.__class__, model.model[-1].__class__ = DetectionModel, Detect
        model.names = {0: "face"}
        torch.save({"model": model, "ema": None}, tmp_path / "face.pt")
        assert kind_of(tmp_path / "face.pt") is Kind.DETECTOR
        output = run(tmp_path / "face.pt", "--model-id", "face-1", "--output", tmp_path / "imported")
        assert "REGISTRY_DETECTOR__BUNDLE=" in output
        picture = np.asarray(Image.fromarray(pixels(COLLINS)).resize((SIDE, SIDE)))
        planes = torch.from_numpy(picture.transpose(2, 0, 1)[None].copy()).float() / 255
        with torch.inference_mode():
            expected = model.eval().float()(planes)[0].numpy()
    bundle = tmp_path / "imported" / "detector"
    assert read_detector(bundle).landmarks == landmarks
    session = onnxruntime.InferenceSession(str(bundle / "model.onnx"), providers=["CPUExecutionProvider"])
    found = session.run(None, {session.get_inputs()[0].name: planes.numpy()})[0]
    best = expected[0, 4].argmax()
    assert expected[0, 4, best] > 0.5
    np.testing.assert_allclose(found[0, :4, best], expected[0, :4, best], atol=1.0)  # pixels
    np.testing.assert_allclose(found[0, 4, best], expected[0, 4, best], atol=0.01)


def test_other_files_are_rejected_without_executing_them(facenet: InceptionResnetV1, tmp_path: Path) -> None:
    class Harmful:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return Path.touch, (tmp_path / "executed",)  # type: ignore[return-value]

    (tmp_path / "text.pt").write_text("no checkpoint")
    (tmp_path / "harmful.pt").write_bytes(pickle.dumps(Harmful()))
    torch.save(Harmful(), tmp_path / "harmful-archive.pt")
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "linear.pt")
    torch.save([1], tmp_path / "list.pt")
    shapes = {name: value.reshape(-1)[:1] for name, value in facenet.state_dict().items()}
    torch.save(shapes, tmp_path / "shapes.pt")
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("bomb/data.pkl", bytes(MAX_PICKLE_BYTES + 1))
    for name, message in (
        ("bomb.pt", "has more than"),
        ("text.pt", "is no state dict"),
        ("harmful.pt", "is no state dict"),
        ("harmful-archive.pt", "is no state dict"),
        ("linear.pt", "weights are missing, such as"),
        ("list.pt", "weights are missing"),
        ("shapes.pt", "weights of other shapes"),
        ("absent.pt", "no such file"),
    ):
        assert message in run(tmp_path / name, "--model-id", "other-1", "--output", tmp_path / "imported"), name
    assert not (tmp_path / "executed").exists()
    assert not (tmp_path / "imported" / "embedder").exists()
    assert "use 3 to 64" in run(tmp_path / "linear.pt", "--model-id", "X")


def test_the_service_imports_checkpoints_with_the_trainer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save(torch.nn.Linear(2, 2).state_dict(), tmp_path / "linear.pt")
    arguments = ["models", "import", str(tmp_path / "linear.pt"), "--model-id", "other-1"]
    command = [sys.executable, "-m", "service", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, "weights are missing, such as" in done.stderr) == (1, True), done.stderr
    monkeypatch.setattr("importlib.util.find_spec", lambda _: None)
    result = CliRunner().invoke(service_app, arguments)
    assert "the trainer is not installed" in str(result.exception)
