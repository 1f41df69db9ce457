import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from service.errors import StartupError
from service.inference.bundle import read_detector, read_embedder, read_manifest, write_manifest
from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions
from service.runtime.settings import BUNDLES


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BUNDLES / "embedder", tmp_path / "embedder"))


def change(bundle: Path, **values: Any) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, **values}))


@pytest.mark.parametrize("name", ["detector", "embedder"])
def test_the_shipped_bundles_say_what_they_are(name: str) -> None:
    manifest = read_manifest(BUNDLES / name)
    assert manifest.kind == name
    assert manifest.provenance.data
    assert "research" in manifest.provenance.terms


def test_both_together_are_small() -> None:
    assert sum(path.stat().st_size for path in BUNDLES.rglob("*") if path.is_file()) <= 20 * 1024**2


def test_the_shipped_embedder_is_calibrated() -> None:
    calibration = read_embedder(BUNDLES / "embedder").calibration
    assert calibration is not None
    assert calibration.impostor_pairs >= 1_000_000
    assert calibration.points[-1].fmr * calibration.impostor_pairs >= 10


def test_writing_and_reading_is_the_same(bundle: Path) -> None:
    manifest = read_embedder(bundle)
    write_manifest(bundle, manifest)
    assert read_embedder(bundle) == manifest


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ({"surprise": 1}, "surprise"),
        ({"format_version": 2}, "format_version"),
        ({"kind": "oracle"}, "kind"),
        ({"model_id": "../../etc"}, "model_id"),
        ({"files": {}}, "has no hash of the graph"),
        ({"files": {"model.onnx": "0" * 64}}, "SHA-256 differs"),
        ({"graph": "other.onnx", "files": {"other.onnx": "0"}}, "not in the bundle"),
        ({"files": {"../embedder/model.onnx": "0"}, "graph": "../embedder/model.onnx"}, "not in the bundle"),
    ],
)
def test_a_manifest_that_is_not_exactly_right_is_refused(bundle: Path, values: dict[str, Any], words: str) -> None:
    change(bundle, **values)
    with pytest.raises(StartupError, match=words):
        read_manifest(bundle)


def test_a_changed_graph_is_refused(bundle: Path) -> None:
    with (bundle / "model.onnx").open("ab") as file:
        file.write(b"\x00")
    with pytest.raises(StartupError, match="SHA-256 differs"):
        read_manifest(bundle)


def test_a_graph_of_another_shape_is_refused(bundle: Path) -> None:
    change(bundle, embedding_dim=64)
    with pytest.raises(StartupError, match="where 64 is due"):
        FaceEmbedder(bundle, RuntimeOptions())


def test_no_bundle_and_the_wrong_kind(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="not a model bundle"):
        read_manifest(tmp_path)
    with pytest.raises(StartupError, match="not a detector"):
        read_detector(BUNDLES / "embedder")
    with pytest.raises(StartupError, match="not an embedder"):
        read_embedder(BUNDLES / "detector")
