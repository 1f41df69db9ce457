"""Tests the gallery report on a collection with planted duplicates and mislabelled templates."""

import asyncio
from pathlib import Path

import numpy as np
import pytest

from service.errors import StartupError
from service.gallery.people import collections
from service.gallery.people.collections import Collection
from service.gallery.storage.database import Database
from service.inference.bundle import read_embedder
from service.recognition.decision import DecisionPolicy, DecisionResolver
from service.recognition.gallery_comparison import GalleryComparer
from service.recognition.gallery_scores import Gallery, measure
from service.recognition.operating_point import OperatingPoint
from service.report.run import report
from service.runtime.settings import BUNDLES
from tests.gallery_rows import enrol

MANIFEST = read_embedder(BUNDLES / "embedder")
POLICY = DecisionPolicy(MANIFEST.calibration, "f32", OperatingPoint("fmr", 1e-3))
PEOPLE, TEMPLATES_EACH = 40, 4


def clustered_templates(seed: int = 0) -> np.ndarray:
    """Returns (PEOPLE, TEMPLATES_EACH, dim) templates whose mates have cosines of about 0.8."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(PEOPLE, 1, MANIFEST.embedding_dim))
    vectors = centres + 0.5 * random.normal(size=(PEOPLE, TEMPLATES_EACH, MANIFEST.embedding_dim))
    return (vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).astype(np.float32)


@pytest.fixture
async def collection(database: Database, collection_name: str) -> Collection:
    """Returns an empty collection of the shipped embedder."""
    async with database.transaction() as connection:
        return await collections.get(connection, collection_name)


async def test_report_lists_planted_duplicates_and_mislabelled_templates(
    database: Database, collection: Collection, tmp_path: Path
) -> None:
    vectors = clustered_templates()
    for number in range(PEOPLE):
        await enrol(database, collection, f"person {number:02}", vectors[number])
    duplicates = clustered_templates()[:3] + 0.03
    duplicates /= np.linalg.norm(duplicates, axis=2, keepdims=True)
    for number, vector in enumerate(duplicates):
        await enrol(database, collection, f"twice | {number}", vector)
    for number in (10, 20):
        await enrol(database, collection, f"person {number:02}", vectors[number + 1][:1] * 0.999)
    path = await asyncio.to_thread(
        report, database.url, {MANIFEST.model_id: POLICY}, collection.name, tmp_path / "report"
    )
    text = path.read_text()
    candidates, outliers = text.split("## Duplicate candidates")[1].split("## Outliers")
    for number in range(3):
        assert f"| person {number:02} | twice &#124; {number} |" in candidates
    assert "yes" in candidates
    mislabelled = [line for line in outliers.splitlines() if "nearer to the other" in line]
    assert sorted((line.split("|")[1].strip(), line.split("|")[4].strip()) for line in mislabelled) == [
        ("person 10", "person 11"),
        ("person 20", "person 21"),
    ]
    assert f"{PEOPLE + 3} identities, {(PEOPLE + 3) * TEMPLATES_EACH + 2} templates" in text
    assert {file.name for file in path.parent.iterdir()} == {"report.md", "scores.png", "fpir.png"}


def test_report_refuses_an_empty_or_unknown_collection(postgres_url: str, collection_name: str, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="no templates"):
        report(postgres_url, {MANIFEST.model_id: POLICY}, collection_name, tmp_path)
    with pytest.raises(StartupError, match="'nowhere'"):
        report(postgres_url, {MANIFEST.model_id: POLICY}, "nowhere", tmp_path)


async def test_report_covers_one_identity_and_a_model_without_calibration(
    database: Database, collection: Collection, tmp_path: Path
) -> None:
    await enrol(database, collection, "alone", clustered_templates()[0])
    uncalibrated = DecisionPolicy(None, "f32", OperatingPoint("fmr", 1e-3))
    with pytest.raises(StartupError, match=r"calibration.*--threshold"):
        await asyncio.to_thread(report, database.url, {MANIFEST.model_id: uncalibrated}, collection.name, tmp_path)
    requested = OperatingPoint("threshold", 0.4)
    path = await asyncio.to_thread(
        report, database.url, {MANIFEST.model_id: uncalibrated}, collection.name, tmp_path, requested
    )
    assert "1 identities, 4 templates" in path.read_text()
    assert "unknown, because the calibration does not cover the threshold" in path.read_text()


async def test_a_collection_above_the_limit_is_sampled(database: Database, collection: Collection) -> None:
    vectors = clustered_templates()
    for number in range(10):
        await enrol(database, collection, f"person {number:02}", vectors[number])
    comparer = GalleryComparer(database, DecisionResolver({MANIFEST.model_id: POLICY}), max_templates=15)
    comparison = await comparer.compare(collection.name)
    assert (comparison.compared, comparison.size.templates) == (15, 40)


def test_measure_compares_every_pair_of_templates() -> None:
    random = np.random.default_rng(1)
    vectors = random.normal(size=(30, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    owners = np.repeat(np.arange(10), 3)
    scores = measure(Gallery(vectors, owners), 0.9, -1, 5)
    assert len(scores.mated) == 10 * 3
    assert scores.non_mated.sum() == 30 * 29 / 2 - 30
    every = vectors @ vectors.T
    every[owners[:, None] == owners[None]] = -1
    np.testing.assert_allclose(scores.best_other, every.max(axis=1), atol=1e-6)
    assert scores.duplicate_candidates[0].best_template == pytest.approx(every.max(), abs=1e-6)
    assert scores.fpir_at(-1) == 1
