"""Manifests, fingerprints and contents of model bundles."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from service.__main__ import app
from service.errors import StartupError
from service.inference.bundle import (
    embedding_fingerprint,
    equivalent_fingerprints,
    read_detector,
    read_embedder,
    read_manifest,
    write_manifest,
)
from service.inference.classifier import ClassifierManifest
from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions
from service.inference.provenance import combined_terms, combined_use
from service.runtime.settings import BUNDLES
from tests.bundles import machine_metadata


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return Path(shutil.copytree(BUNDLES / "embedder", tmp_path / "embedder"))


def change(bundle: Path, **values: Any) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    (bundle / "manifest.json").write_text(json.dumps({**manifest, **values}))


@pytest.mark.parametrize("bundle", sorted(BUNDLES.glob("*/manifest.json")), ids=lambda path: path.parent.name)
def test_terms_of_shipped_bundles_follow_from_their_origins(bundle: Path) -> None:
    manifest = read_manifest(bundle.parent)
    provenance = manifest.provenance
    assert manifest.kind == bundle.parent.name.partition("-")[0]
    assert provenance.data
    assert provenance.use is combined_use(provenance.origins)
    assert provenance.terms == combined_terms(provenance.origins)
    shown = CliRunner().invoke(app, ["models", "show", str(bundle.parent)]).output
    assert f"): {provenance.use}\n" in shown
    assert all(str(origin) in shown for origin in provenance.origins)


@pytest.mark.parametrize("graph", sorted(BUNDLES.rglob("*.onnx")), ids=lambda path: f"{path.parent.name}/{path.name}")
def test_shipped_graphs_have_no_metadata_of_the_exporting_machine(graph: Path) -> None:
    assert machine_metadata(graph) == set()


def test_shipped_bundles_have_at_most_20_mib() -> None:
    assert sum(path.stat().st_size for path in BUNDLES.rglob("*") if path.is_file()) <= 20 * 1024**2


def test_the_shipped_embedder_is_calibrated() -> None:
    calibration = read_embedder(BUNDLES / "embedder").calibration
    assert calibration is not None
    assert calibration.impostor_pairs >= 1_000_000
    assert calibration.points[-1].fmr * calibration.impostor_pairs >= 10


def test_written_manifest_is_read_back_unchanged(bundle: Path) -> None:
    manifest = read_embedder(bundle)
    write_manifest(bundle, manifest)
    assert read_embedder(bundle) == manifest


def test_fingerprint_depends_on_the_graph_and_not_on_the_calibration(bundle: Path) -> None:
    manifest = read_embedder(bundle)
    fingerprint = embedding_fingerprint(manifest)
    other = manifest.files | {"model.onnx": "0" * 64}
    assert embedding_fingerprint(manifest.model_copy(update={"calibration": None, "supersedes": []})) == fingerprint
    assert embedding_fingerprint(manifest.model_copy(update={"files": other})) != fingerprint


def test_superseded_fingerprints_are_equivalent(bundle: Path) -> None:
    """A classifier that was fitted on an earlier file of the bundle fits the current one."""
    change(bundle, supersedes=["a", "b"])
    manifest = read_embedder(bundle)
    assert equivalent_fingerprints(manifest) == ["a", "b", embedding_fingerprint(manifest)]
    for fingerprint, fits in (("a", True), (embedding_fingerprint(manifest), True), ("c", False)):
        classifier = ClassifierManifest(
            kind="classifier",
            format_version=1,
            classifier_id="people-1",
            embedder=manifest.model_id,
            embedder_fingerprint=fingerprint,
            labels=["first", "second"],
            weights_sha256="0" * 64,
        )
        assert classifier.fits(manifest) is fits
        assert not classifier.fits(manifest.model_copy(update={"model_id": "another-model"}))


def test_shipped_embedders_supersede_the_files_of_release_0_1() -> None:
    """Databases that were created with release 0.1 store the fingerprints of its files."""
    first_release = {
        "embedder": "29141145b437206943d11077cbd0641480aa199382bbcadaf103e7935f9c2bf4",
        "embedder-fairface": "3376b208acb1c1764f2567173db8d7c2bbb33875b54182ab34fbf1ebf30341aa",
    }
    for name, fingerprint in first_release.items():
        assert equivalent_fingerprints(read_embedder(BUNDLES / name).models[-1])[0] == fingerprint


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"surprise": 1}, "surprise"),
        ({"format_version": 2}, "format_version"),
        ({"kind": "oracle"}, "kind"),
        ({"model_id": "../../etc"}, "model_id"),
        ({"files": {}}, "has no hash of 'model.onnx'"),
        ({"files": {"model.onnx": "0" * 64}}, "SHA-256 differs"),
        ({"graph": "other.onnx", "files": {"other.onnx": "0"}}, "not in the bundle"),
        ({"files": {"../embedder/model.onnx": "0"}, "graph": "../embedder/model.onnx"}, "not in the bundle"),
    ],
)
def test_invalid_manifest_is_refused(bundle: Path, values: dict[str, Any], message: str) -> None:
    change(bundle, **values)
    with pytest.raises(StartupError, match=message):
        read_manifest(bundle)


def test_changed_graph_is_refused(bundle: Path) -> None:
    with (bundle / "model.onnx").open("ab") as file:
        file.write(b"\x00")
    with pytest.raises(StartupError, match="SHA-256 differs"):
        read_manifest(bundle)


def test_graph_with_another_output_shape_is_refused(bundle: Path) -> None:
    change(bundle, embedding_dim=64)
    with pytest.raises(StartupError, match=r"requires \(64,\)"):
        FaceEmbedder(bundle, RuntimeOptions())


def test_missing_bundle_and_wrong_kind_are_refused(tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="not a model bundle"):
        read_manifest(tmp_path)
    with pytest.raises(StartupError, match="a detector is required"):
        read_detector(BUNDLES / "embedder")
    with pytest.raises(StartupError, match="an embedder is required"):
        read_embedder(BUNDLES / "detector")
