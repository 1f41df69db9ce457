"""Tests of fitting a cohort."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from service.inference.bundle import read_embedder
from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions
from service.runtime.settings import BUNDLES
from trainer.__main__ import app
from trainer.configuration import ConfigError
from trainer.embedder.cohort import Faces, fit
from trainer.embedder.cohort_config import CohortConfig
from trainer.embedder.scores import all_pairs
from trainer.options import CONFIGS

CONFIG = CohortConfig.load(CONFIGS / "cohort.yaml")
SMALL = CONFIG.model_copy(
    update={"centres": 16, "steps": 60, "people_per_step": 100, "unlabelled_per_step": 300, "learning_rate": 0.01}
)


def kind_of_faces(direction: int, count: int, similarity: float, seed: int, dim: int = 32) -> np.ndarray:
    """Returns (count, dim) normalised embeddings of different people whose mean cosine is about `similarity`."""
    rng = np.random.default_rng(seed)
    own = rng.normal(size=(count, dim)) / np.sqrt(dim)
    vectors = np.sqrt(similarity) * np.eye(dim)[direction] + np.sqrt(1 - similarity) * own
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def with_noise(embeddings: np.ndarray, seed: int) -> np.ndarray:
    noise = np.random.default_rng(seed).normal(size=embeddings.shape) * 0.5 / np.sqrt(embeddings.shape[1])
    vectors = embeddings + noise
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def test_a_kind_of_faces_that_lies_close_together_gets_no_more_false_matches() -> None:
    """Half of the faces have a mean cosine of .4 to each other, the others of .05; no label says which."""
    close, apart = kind_of_faces(0, 400, 0.4, 1), kind_of_faces(1, 400, 0.05, 2)
    people = np.concatenate([kind_of_faces(1, 150, 0.05, 3), kind_of_faces(0, 50, 0.4, 4)])
    pairs = [np.stack(pair) for pair in zip(with_noise(people, 5), with_noise(people, 6), strict=True)]
    cohort = fit(Faces(pairs, np.concatenate([close, apart])), SMALL)
    held_out = kind_of_faces(0, 300, 0.4, 7), kind_of_faces(1, 300, 0.05, 8)
    ratios = []
    for correct in (np.asarray, cohort.correct):
        first, second = (all_pairs(correct(faces), [str(row) for row in range(300)]).impostor for faces in held_out)
        threshold = np.quantile(np.concatenate([first, second]), 0.99)
        ratios.append((first >= threshold).mean() / max((second >= threshold).mean(), 1e-6))
    before, after = ratios
    assert before > 50
    assert 0.3 < after < 3
    tested = np.concatenate([with_noise(held_out[1], seed) for seed in (9, 10)])
    scores = all_pairs(cohort.correct(tested), [str(row % 300) for row in range(600)])
    raw = all_pairs(tested, [str(row % 300) for row in range(600)])
    rates = [pairs.true_accept_rate(pairs.threshold_at(1e-3)) for pairs in (raw, scores)]
    assert rates[1] >= rates[0] - 0.02


def test_the_same_seed_gives_the_same_cohort() -> None:
    faces = Faces([np.stack([row, row]) for row in kind_of_faces(0, 20, 0.1, 1)], kind_of_faces(1, 100, 0.1, 2))
    config = SMALL.model_copy(update={"steps": 3})
    first, second = fit(faces, config), fit(faces, config)
    assert np.array_equal(first.corrections, second.corrections)
    assert np.linalg.norm(first.centres, axis=1) == pytest.approx(np.ones(16), abs=1e-5)


@pytest.mark.parametrize(
    ("people", "unlabelled", "centres", "message"),
    [
        (1, 100, 16, "at least two training people"),
        (5, 31, 16, "31 unlabelled faces are too few for 16 centres"),
        (5, 20_000, 10_000, "at most 1000000"),
    ],
)
def test_too_few_faces_are_rejected(people: int, unlabelled: int, centres: int, message: str) -> None:
    faces = Faces([np.zeros((2, 32), np.float32)] * people, np.zeros((unlabelled, 32), np.float32))
    with pytest.raises(ConfigError, match=message):
        fit(faces, SMALL.model_copy(update={"centres": centres}))


def test_the_command_writes_a_bundle_with_two_models(ten_people: Path, tmp_path: Path) -> None:
    settings = tmp_path / "cohort.yaml"
    text = (CONFIGS / "cohort.yaml").read_text()
    settings.write_text(text.replace("centres: 1024", "centres: 4").replace("steps: 160", "steps: 2"))
    split = tmp_path / "train.yaml"
    split.write_text((CONFIGS / "train.yaml").read_text().replace("calibration: 0.30", "calibration: 0.0"))
    output = tmp_path / "output"
    source = BUNDLES / "embedder-fairface"  # it records no split
    arguments = ["cohort", "--identities", str(ten_people), "--unlabelled", str(ten_people), "--bundle", str(source)]
    arguments += ["--settings", str(settings), "--config", str(split), "--work", str(tmp_path / "work")]
    arguments += ["--output", str(output), "--model-id"]
    refused = CliRunner().invoke(app, [*arguments, "No"])
    assert "use 3 to 64 lower-case letters" in str(refused.exception)
    written = CliRunner().invoke(app, [*arguments, "with-cohort"])
    assert written.exit_code == 0, written.exception
    original = read_embedder(source)
    corrected, uncorrected = read_embedder(output).models
    assert (corrected.model_id, corrected.calibration) == ("with-cohort", None)
    assert uncorrected.model_id == original.model_id
    assert uncorrected.calibration is not None
    embedder = FaceEmbedder(output, RuntimeOptions())
    former = embedder.uncorrected()
    assert former is not None
    faces = [np.random.default_rng(seed).integers(0, 255, (112, 112, 3), np.uint8) for seed in range(3)]
    assert not np.allclose(embedder.embed(faces), former.embed(faces), atol=1e-3)
    assert (embedder.embed_with_lengths(faces)[1] == former.embed_with_lengths(faces)[1]).all()
