"""Exported embedders: the bundle and every other format produce the embeddings of the model."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from facenet_pytorch import InceptionResnetV1
from PIL import Image
from typer.testing import CliRunner

from service.inference.bundle import read_embedder
from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions
from tests.trainer.small_embedder import embed
from tests.trainer.small_run import Run, run_config
from trainer.__main__ import app
from trainer.choices import Format
from trainer.configuration import ConfigError
from trainer.embedder import export
from trainer.embedder.aligned_crops import load_aligned_crops
from trainer.embedder.augmentation import centre_tensor
from trainer.embedder.checkpoints import load_encoder
from trainer.embedder.formats import require_parity, runner
from trainer.embedder.split import Part, part_of

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's hints on loaders, loggers and precision


def test_bundle_produces_the_embeddings_of_the_model(trained: Path, identity_folder: Path, tmp_path: Path) -> None:
    provenance = {"data": ["two people"], "terms": "test", "initialised_from": "random"}
    export.export(trained, tmp_path / "bundle", "tiny-test", provenance)
    manifest = read_embedder(tmp_path / "bundle")
    assert (manifest.embedding_dim, manifest.calibration) == (16, None)
    eager, _ = embed(trained, identity_folder, tmp_path / "cache")
    crops = load_aligned_crops(identity_folder, None, tmp_path / "cache")
    centres = [np.asarray(picture[24:136, 24:136]) for picture in crops.pictures]
    for backend in ("openvino", "onnxruntime"):
        embedder = FaceEmbedder(tmp_path / "bundle", RuntimeOptions(backend))  # type: ignore[arg-type]
        object.__setattr__(embedder.manifest, "mirror_average", False)
        assert (embedder.embed(centres) * eager).sum(axis=1).min() > 0.9999


@pytest.mark.timeout(300)
def test_every_format_produces_the_embeddings_of_the_model(
    trained: Path, identity_folder: Path, tmp_path: Path
) -> None:
    """Runs in another process, since the converters change loggers and warnings."""
    arguments = ["export", "--checkpoint", trained, "--model-id", "tiny-test", "--output", tmp_path / "bundle"]
    arguments += ["--crops", identity_folder, "--work", tmp_path / "work", *(f"--also={kind}" for kind in Format)]
    done = subprocess.run(
        [sys.executable, "-m", "trainer", *(str(argument) for argument in arguments)], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    rows = [line.strip("| ").split(" | ") for line in (tmp_path / "bundle" / "formats.md").read_text().splitlines()[2:]]
    assert [row[0] for row in rows] == ["onnx", *Format]
    encoder, _ = load_encoder(trained)
    crops = load_aligned_crops(identity_folder, None, tmp_path / "cache")
    pixels = centre_tensor(torch.from_numpy(np.array(crops.pictures))).numpy()
    for kind, (_, file, megabytes, cosine, milliseconds) in zip(Format, rows[1:], strict=True):
        assert float(cosine) > (0.8 if kind is Format.LITERT_INT8 else 0.9999)
        assert float(megabytes) > 0.1
        assert float(milliseconds) > 0
        run = runner(kind, tmp_path / "bundle" / file)
        with pytest.raises(ValueError, match="differ from those of the PyTorch model"):
            require_parity(encoder, kind, lambda pixels, run=run: run(pixels[..., ::-1].copy()), pixels)
    snippet = (tmp_path / "bundle" / "FaceEmbedder.kt").read_text()
    assert all(part in snippet for part in ("const val SIZE = 112", "const val DIMENSION = 16", "model-int8.tflite"))
    with pytest.raises(ConfigError, match="--crops"):
        export.export_encoder(*load_encoder(trained), tmp_path / "other", "tiny-test", {}, [Format.OPENVINO])


def test_checkpoint_is_measured_on_held_out_people_without_pairs(ten_people: Path, tmp_path: Path) -> None:
    crops = load_aligned_crops(ten_people, None, tmp_path / "cache")
    pictures = {"images_per_identity": None, "batch_size": 2, "losses": {"softmax": 1}}
    run = Run(tmp_path, run_config({"split": {"validation": 0.8, "calibration": 0}}, pictures), crops)
    words = ["evaluate", "--checkpoint", run.best, "--identities", ten_people, "--output", tmp_path / "report"]
    words += ["--work", tmp_path / "work", "--part", "val"]
    result = CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    assert "roc_auc" in result.stdout
    figures = json.loads((tmp_path / "report" / "figures.json").read_text())
    split = load_encoder(run.best)[1].split
    held_out = [name for name in crops.identities if part_of(name, split) is Part.VALIDATION]
    assert (figures["people"], figures["pictures"]) == (len(set(held_out)), len(held_out))
    assert 0 < figures["roc_auc"] <= 1
    assert (tmp_path / "report" / "verification.png").exists()
    for words, message in (
        (["evaluate", "--checkpoint", str(run.best)], "name it with --identities"),
        (["evaluate"], "name photos with --pairs, or a checkpoint"),
    ):
        assert message in str(CliRunner().invoke(app, words).exception)


def test_published_weights_are_packed_without_training(
    tmp_path: Path, identity_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """InceptionResnetV1 with its own layer; the weights are random, as the published ones need the internet."""
    facenet = InceptionResnetV1()
    torch.save(facenet.state_dict(), tmp_path / "vggface2.pt")
    config = tmp_path / "facenet.yaml"
    stages = "[{name: x, epochs: 1, learning_rate: 1, losses: {softmax: 1}}]"
    config.write_text(
        f"{{backbone: 'facenet:inception_resnet_v1_512', embedding_dim: 512, input_size: 160, stages: {stages}}}"
    )
    words = ["export", "--config", config, "--initial", tmp_path / "vggface2.pt", "--model-id", "facenet-512"]
    words += ["--output", tmp_path / "bundle"]
    CliRunner().invoke(app, [str(word) for word in words], catch_exceptions=False)
    embedder = FaceEmbedder(tmp_path / "bundle", RuntimeOptions())
    crops = [np.asarray(Image.open(path)) for path in sorted(identity_folder.glob("*/*"))[:4]]
    pixels = torch.from_numpy(np.stack(crops)).permute(0, 3, 1, 2).float()
    with torch.inference_mode():
        expected = facenet.eval()((pixels - 127.5) / 128).numpy()
    assert (embedder.embed(crops) * expected).sum(axis=1).min() > 0.9999
    config.write_text(f"{{backbone: resnet18, stages: {stages}}}")
    for more, message in (
        ([], "random weights"),
        (["--checkpoint", "x.ckpt"], "name either --checkpoint, or --config"),
    ):
        arguments = ["export", "--config", str(config), "--model-id", "other-1", "--output", str(tmp_path / "x"), *more]
        assert message in str(CliRunner().invoke(app, arguments).exception)
