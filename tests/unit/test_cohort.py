"""Tests of cohort normalisation and its file."""

import io
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.errors import StartupError
from service.inference import cohort as cohort_module
from service.inference.bundle import (
    MANIFEST,
    embedding_fingerprint,
    file_sha256,
    open_cohort,
    read_embedder,
    write_manifest,
)
from service.inference.cohort import Cohort, read_cohort, write_cohort
from service.inference.manifest import CohortNormalisation, UncorrectedModel
from service.runtime.settings import BUNDLES

X, Y = np.eye(2, dtype=np.float32)


def random_cohort(seed: int, dim: int = 8) -> Cohort:
    centres, corrections = np.random.default_rng(seed).normal(size=(2, 5, dim)).astype(np.float32)
    return Cohort(centres / np.linalg.norm(centres, axis=1, keepdims=True), corrections, 15.0)


def normalised(seed: int, count: int = 4, dim: int = 8) -> np.ndarray:
    vectors = np.random.default_rng(seed).normal(size=(count, dim)).astype(np.float32)
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def test_the_correction_of_the_only_centre_is_subtracted() -> None:
    """(0.6, 0.8) - 0.5 (1, 0) = (0.1, 0.8), of length 0.80623."""
    corrected = Cohort(X[None], 0.5 * X[None], 15.0).correct(np.array([[0.6, 0.8]], np.float32))
    assert corrected == pytest.approx(np.array([[0.1, 0.8]]) / 0.80623, abs=1e-5)


def test_centres_are_weighted_by_the_softmax_of_their_cosines() -> None:
    """With sharpness ln 3, the centre of cosine 1 has the weight 3/4 and that of cosine 0 the weight 1/4."""
    corrections = np.array([[0.4, 0.0], [0.0, 0.4]], np.float32)
    corrected = Cohort(np.stack([X, Y]), corrections, float(np.log(3))).correct(X[None])
    expected = np.array([1 - 0.3, -0.1])
    assert corrected[0] == pytest.approx(expected / np.linalg.norm(expected), abs=1e-6)


@given(st.integers(0, 1000), st.integers(0, 1000))
def test_corrected_embeddings_have_length_one_and_do_not_depend_on_the_batch(seed: int, faces: int) -> None:
    cohort, embeddings = random_cohort(seed), normalised(faces)
    corrected = cohort.correct(embeddings)
    assert np.linalg.norm(corrected, axis=1) == pytest.approx(np.ones(4), abs=1e-5)
    assert np.concatenate([cohort.correct(row[None]) for row in embeddings]) == pytest.approx(corrected, abs=1e-5)


def test_without_corrections_and_without_embeddings_nothing_changes() -> None:
    cohort = Cohort(random_cohort(0).centres, np.zeros((5, 8), np.float32), 15.0)
    assert cohort.correct(normalised(1)) == pytest.approx(normalised(1), abs=1e-6)
    assert cohort.correct(np.zeros((0, 8), np.float32)).shape == (0, 8)


def test_a_written_cohort_is_read_in_half_precision(tmp_path: Path) -> None:
    cohort = random_cohort(2)
    write_cohort(tmp_path / "cohort.npy", cohort)
    read = read_cohort((tmp_path / "cohort.npy").read_bytes(), 8, 15.0, "cohort.npy")
    assert read.centres == pytest.approx(cohort.centres, abs=1e-3)
    assert read.corrections == pytest.approx(cohort.corrections, abs=2e-3)


def stored(array: np.ndarray) -> bytes:
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"text", "is not a cohort"),
        (b"", "is not a cohort"),
        (stored(np.array([{"a": 1}], object)), "is not a cohort"),
        (stored(np.zeros((2, 5, 8), np.float16))[:-1], "is not a cohort"),
        (stored(np.zeros((2, 5, 7), np.float16)), r"\(2, 5, 7\); a cohort has the shape \(2, k, 8\)"),
        (stored(np.zeros((2, 0, 8), np.float16)), "a cohort has the shape"),
        (stored(np.zeros((3, 5, 8), np.float16)), "a cohort has the shape"),
        (stored(np.full((2, 5, 8), np.nan, np.float16)), "not finite"),
        (bytes(cohort_module.MAX_BYTES + 1), "at most 1000000"),
    ],
)
def test_an_invalid_file_is_rejected(content: bytes, message: str) -> None:
    with pytest.raises(StartupError, match=message):
        read_cohort(content, 8, 15.0, "cohort.npy")


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle with a cohort, whose model without the cohort is the shipped FairFace embedder."""
    shutil.copytree(BUNDLES / "embedder-fairface", tmp_path / "bundle")
    manifest = read_embedder(tmp_path / "bundle")
    file = tmp_path / "bundle" / "cohort.npy"
    write_cohort(file, random_cohort(3, manifest.embedding_dim))
    uncorrected = UncorrectedModel(
        model_id=manifest.model_id, calibration=manifest.calibration, supersedes=manifest.supersedes
    )
    normalisation = CohortNormalisation(
        file=file.name, sharpness=15.0, data=["test"], config_sha256="0", uncorrected=uncorrected
    )
    changes = {"model_id": "with-cohort", "cohort": normalisation, "supersedes": []}
    files = manifest.files | {file.name: file_sha256(file)}
    write_manifest(tmp_path / "bundle", manifest.model_copy(update=changes | {"files": files}))
    return tmp_path / "bundle"


def test_a_bundle_with_a_cohort_serves_two_models(bundle: Path) -> None:
    """Collections of the model without the cohort stay usable: its fingerprint is that of the former bundle."""
    former = read_embedder(BUNDLES / "embedder-fairface")
    corrected, uncorrected = read_embedder(bundle).models
    assert (corrected.model_id, uncorrected.model_id) == ("with-cohort", former.model_id)
    assert embedding_fingerprint(uncorrected) == embedding_fingerprint(former)
    assert embedding_fingerprint(corrected) != embedding_fingerprint(former)
    assert uncorrected.calibration == former.calibration
    assert open_cohort(bundle, uncorrected) is None
    assert former.models == [former]


def test_a_changed_cohort_is_noticed(bundle: Path) -> None:
    before = embedding_fingerprint(read_embedder(bundle))
    write_cohort(bundle / "cohort.npy", random_cohort(4, 128))
    with pytest.raises(StartupError, match="its SHA-256 differs"):
        read_embedder(bundle)
    document = json.loads((bundle / MANIFEST).read_text())
    document["files"]["cohort.npy"] = file_sha256(bundle / "cohort.npy")
    (bundle / MANIFEST).write_text(json.dumps(document))
    assert embedding_fingerprint(read_embedder(bundle)) != before
