"""The gallery report on a collection with planted faults, all of which it must name."""

import asyncio
from pathlib import Path

import httpx
import numpy as np
import pytest

from service.errors import StartupError
from service.gallery.people import collections, identities, templates
from service.gallery.storage.database import Database
from service.inference.bundle import read_embedder
from service.recognition.decision import DecisionPolicy, OperatingPoint
from service.report.run import report
from service.report.scores import Gallery, measure
from service.runtime.settings import BUNDLES

MANIFEST = read_embedder(BUNDLES / "embedder")
POLICY = DecisionPolicy(MANIFEST.calibration, "f32", OperatingPoint("fmr", 1e-3))
PEOPLE, EACH = 40, 4


def clouds(seed: int = 0) -> np.ndarray:
    """(PEOPLE, EACH, dim) templates whose mates have cosines of about 0.8."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(PEOPLE, 1, MANIFEST.embedding_dim))
    vectors = centres + 0.5 * random.normal(size=(PEOPLE, EACH, MANIFEST.embedding_dim))
    return (vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).astype(np.float32)


async def enrol(database: Database, name: str, person: str, vectors: np.ndarray) -> None:
    async with database.transaction() as connection:
        collection = await collections.get(connection, name)
        identity_id, _ = await identities.lock_or_create(connection, collection.id, person, person, None)
        samples = [templates.NewTemplate(vector.tobytes()[:32], vector, (0, 0, 1, 1), 1.0, None) for vector in vectors]
        await templates.add(connection, collection.id, identity_id, MANIFEST.model_id, samples)
        await templates.recompute_centroid(connection, collection.id, identity_id, MANIFEST.model_id)


async def test_planted_duplicates_and_mislabelled_templates_are_named(
    database: Database, client: httpx.Client, collection_name: str, tmp_path: Path
) -> None:
    vectors = clouds()
    for number in range(PEOPLE):
        await enrol(database, collection_name, f"person {number:02}", vectors[number])
    again = clouds()[:3] + 0.03
    again /= np.linalg.norm(again, axis=2, keepdims=True)
    for number, vector in enumerate(again):
        await enrol(database, collection_name, f"twice | {number}", vector)
    for number in (10, 20):
        await enrol(database, collection_name, f"person {number:02}", vectors[number + 1][:1] * 0.999)
    path = await asyncio.to_thread(
        report, database.url, {MANIFEST.model_id: POLICY}, collection_name, tmp_path / "report"
    )
    text = path.read_text()
    alike, outlier = text.split("## People who look like")[1].split("## Templates that don't fit")
    for number in range(3):
        assert f"| person {number:02} | twice &#124; {number} |" in alike
    assert "yes" in alike
    named = [line for line in outlier.splitlines() if "another person's?" in line]
    assert sorted((line.split("|")[1].strip(), line.split("|")[4].strip()) for line in named) == [
        ("person 10", "person 11"),
        ("person 20", "person 21"),
    ]
    assert f"{PEOPLE + 3} people, {(PEOPLE + 3) * EACH + 2} templates" in text
    assert {file.name for file in path.parent.iterdir()} == {"report.md", "scores.png", "fpir.png"}


def test_an_empty_or_missing_collection_is_told(postgres_url: str, collection_name: str, tmp_path: Path) -> None:
    with pytest.raises(StartupError, match="no templates"):
        report(postgres_url, {MANIFEST.model_id: POLICY}, collection_name, tmp_path)
    with pytest.raises(StartupError, match="no collection 'nowhere'"):
        report(postgres_url, {MANIFEST.model_id: POLICY}, "nowhere", tmp_path)


async def test_one_person_and_no_calibration_are_a_gallery_too(
    database: Database, collection_name: str, tmp_path: Path
) -> None:
    await enrol(database, collection_name, "alone", clouds()[0])
    uncalibrated = DecisionPolicy(None, "f32", OperatingPoint("fmr", 1e-3))
    with pytest.raises(StartupError, match=r"no calibration.*--threshold"):
        await asyncio.to_thread(report, database.url, {MANIFEST.model_id: uncalibrated}, collection_name, tmp_path)
    asked = OperatingPoint("threshold", 0.4)
    path = await asyncio.to_thread(
        report, database.url, {MANIFEST.model_id: uncalibrated}, collection_name, tmp_path, asked
    )
    assert "1 people, 4 templates" in path.read_text()
    assert "not known, the threshold is outside of the calibration" in path.read_text()


def test_scores_are_those_of_every_pair() -> None:
    random = np.random.default_rng(1)
    vectors = random.normal(size=(30, 8)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    owners = np.repeat(np.arange(10), 3)
    scores = measure(Gallery(vectors, owners), 0.9, -1, 5)
    assert len(scores.mates) == 10 * 3
    assert scores.non_mates.sum() == 30 * 29 / 2 - 30
    every = vectors @ vectors.T
    every[owners[:, None] == owners[None]] = -1
    np.testing.assert_allclose(scores.best_other, every.max(axis=1), atol=1e-6)
    assert scores.lookalikes[0].best_template == pytest.approx(every.max(), abs=1e-6)
    assert scores.fpir_at(-1) == 1
