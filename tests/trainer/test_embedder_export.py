"""Exported embedders: the bundle and every other format produce the embeddings of the model."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from service.inference.bundle import read_embedder
from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions
from tests.trainer.small_embedder import embed
from trainer.choices import Format
from trainer.configuration import ConfigError
from trainer.embedder import export
from trainer.embedder.aligned_crops import load_aligned_crops
from trainer.embedder.augmentation import centre_tensor
from trainer.embedder.checkpoints import load_encoder
from trainer.embedder.formats import require_parity, runner

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
    with pytest.raises(ConfigError, match="--crops"):
        export.export(trained, tmp_path / "other", "tiny-test", {}, [Format.OPENVINO])
