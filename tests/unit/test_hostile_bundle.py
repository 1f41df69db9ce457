"""A bundle of a third party cannot make the service read a file outside its folder, or a file without a hash."""

import hashlib
import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

from service.errors import CalibrationNotFound, StartupError
from service.inference.bundle import read_embedder, read_manifest
from service.inference.classifier import read_classifier, write_classifier
from service.recognition.decision import DecisionPolicy, DecisionResolver
from service.recognition.models import LoadedBundle, ModelCatalogue
from service.recognition.operating_point import OperatingPoint
from service.runtime.settings import BUNDLES

SECRET = "the secret of audit.key"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    (tmp_path / "audit.key").write_text(SECRET)
    return Path(shutil.copytree(BUNDLES / "embedder", tmp_path / "embedder"))


def change(bundle: Path, **values: Any) -> None:
    file = bundle / "manifest.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def name_picture(bundle: Path, name: str, **files: str) -> None:
    manifest = json.loads((bundle / "manifest.json").read_text())
    change(bundle, calibration=manifest["calibration"] | {"picture": name}, files=manifest["files"] | files)


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


@pytest.mark.parametrize("absolute", [False, True])
@pytest.mark.parametrize("listed", [False, True])
def test_the_picture_of_the_calibration_lies_in_the_bundle(bundle: Path, absolute: bool, listed: bool) -> None:
    name = str(bundle.parent / "audit.key") if absolute else "../audit.key"
    name_picture(bundle, name, **({name: sha256(SECRET)} if listed else {}))
    with pytest.raises(StartupError, match="not in the bundle" if listed else "has no hash"):
        read_manifest(bundle)


def test_a_picture_without_a_hash_is_refused(bundle: Path) -> None:
    (bundle / "other.svg").write_text("<svg/>")
    name_picture(bundle, "other.svg")
    with pytest.raises(StartupError, match=r"has no hash of 'other\.svg'"):
        read_manifest(bundle)


@pytest.mark.parametrize("name", ["det.svg", "manifest.json"])
def test_a_link_out_of_the_bundle_is_refused(bundle: Path, name: str) -> None:
    outside = bundle.parent / "outside"
    (bundle / name).rename(outside)
    (bundle / name).symlink_to(outside)
    with pytest.raises(StartupError, match="a link to a file outside the bundle"):
        read_manifest(bundle)


def test_links_within_the_bundle_are_read(bundle: Path) -> None:
    """Kubernetes mounts files of a ConfigMap as such links."""
    (bundle / "..data").mkdir()
    for name in ("det.svg", "manifest.json", "model.onnx"):
        (bundle / name).rename(bundle / "..data" / name)
        (bundle / name).symlink_to(Path("..data") / name)
    (bundle.parent / "link").symlink_to(bundle)
    assert read_manifest(bundle.parent / "link").kind == "embedder"


def test_a_pipe_is_refused(bundle: Path) -> None:
    (bundle / "det.svg").unlink()
    os.mkfifo(bundle / "det.svg")
    with pytest.raises(StartupError, match="not in the bundle"):
        read_manifest(bundle)


def test_a_picture_that_was_replaced_after_the_start_is_not_returned(bundle: Path) -> None:
    manifest = read_embedder(bundle)
    policy = DecisionPolicy(manifest.calibration, "f32", OperatingPoint("fmr", 1e-3))
    catalogue = ModelCatalogue(
        {manifest.model_id: LoadedBundle(bundle, manifest)}, DecisionResolver({manifest.model_id: policy}), "f32"
    )
    assert catalogue.det_curve(manifest.model_id).startswith(b"<")
    (bundle / "det.svg").unlink()
    (bundle / "det.svg").symlink_to(bundle.parent / "audit.key")
    with pytest.raises(CalibrationNotFound, match="has changed since the start"):
        catalogue.det_curve(manifest.model_id)


@pytest.mark.parametrize("location", ["../audit.key", "weights.bin"])
def test_a_graph_with_external_tensors_is_refused(bundle: Path, location: str) -> None:
    graph = bundle / "model.onnx"
    model = onnx.load(graph)
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = onnx.TensorProto.EXTERNAL
    tensor.external_data.add(key="location", value=location)
    graph.write_bytes(model.SerializeToString())
    files = {"model.onnx": hashlib.sha256(graph.read_bytes()).hexdigest()}
    change(bundle, files=files, calibration=None)
    with pytest.raises(StartupError, match="stores tensors in other files"):
        read_manifest(bundle)


def test_a_graph_of_another_format_is_refused(bundle: Path) -> None:
    """OpenVINO reads `model.bin` with `model.xml`; the manifest lists only the latter."""
    (bundle / "model.xml").write_text("<net/>")
    change(bundle, graph="model.xml", files={"model.xml": sha256("<net/>")}, calibration=None)
    with pytest.raises(StartupError, match=r"not an \.onnx file"):
        read_manifest(bundle)


@pytest.mark.parametrize("name", ["classifier.json", "classifier.npz"])
def test_a_classifier_with_a_link_out_of_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    folder = tmp_path / "classifier"
    write_classifier(folder, "people-1", "m", "f", ["a", "b"], np.ones((2, 8)), np.zeros(2), {})
    assert read_classifier(folder).classifier_id == "people-1"
    (folder / name).rename(tmp_path / name)
    (folder / name).symlink_to(tmp_path / name)
    with pytest.raises(StartupError, match="a link to a file outside the bundle"):
        read_classifier(folder)
