"""Measures error rates with intervals, searches and error-versus-discard curves on synthetic embeddings."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from service.inference.bundle import read_embedder
from service.inference.cohort import Cohort
from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions
from service.runtime.settings import BUNDLES
from trainer.__main__ import app
from trainer.configuration import ConfigError
from trainer.embedder import calibration_record, cohort_record
from trainer.embedder.bootstrap import count_pairs, interval, mean_interval, rate_intervals
from trainer.embedder.calibration import Sample, calibrate, reference_lengths
from trainer.embedder.cohort_config import CohortConfig
from trainer.embedder.discard import error_versus_discard
from trainer.embedder.evaluation import several_templates
from trainer.embedder.identification import (
    People,
    centroid_identification,
    largest_gallery,
    rank_of_mate,
    search_galleries,
)
from trainer.embedder.scores import all_pairs
from trainer.options import CONFIGS


def people(count: int, each: int, noise: float, seed: int = 0, dim: int = 32) -> tuple[np.ndarray, list[str]]:
    """Returns `count` x `each` normalised embeddings scattered around random directions, and their names."""
    random = np.random.default_rng(seed)
    centres = random.normal(size=(count, 1, dim))
    vectors = (centres + noise * random.normal(size=(count, each, dim))).reshape(-1, dim).astype(np.float32)
    names = [f"p{person:04}" for person in range(count) for _ in range(each)]
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True), names


CONFIG = CohortConfig.load(CONFIGS / "cohort.yaml")
NOBODY = np.zeros((0, 32), np.float32)


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 1000), st.floats(0.2, 2))
def test_counts_by_person_add_up_to_all_pairs(seed: int, noise: float) -> None:
    embeddings, names = people(9, 4, noise, seed)
    order = np.random.default_rng(seed).permutation(len(names))
    embeddings, names = embeddings[order], [names[row] for row in order]
    thresholds = np.array([-0.2, 0.1, 0.5], np.float32)
    counts, pairs = count_pairs(embeddings, names, thresholds), all_pairs(embeddings, names)
    for index, threshold in enumerate(thresholds):
        assert counts.impostor[index].sum() / 2 == pytest.approx((pairs.impostor >= threshold).sum(), abs=1)
        assert counts.genuine[index].sum() == pytest.approx((pairs.genuine < threshold).sum(), abs=1)
        assert (counts.impostor[index] == counts.impostor[index].T).all()


def test_interval_contains_the_rate_and_is_wider_for_rare_events() -> None:
    embeddings, names = people(60, 4, 1.0)
    pairs = all_pairs(embeddings, names)
    thresholds = np.array([pairs.threshold_at(rate) for rate in (0.1, 0.005)])
    (common, rare), _ = rate_intervals(count_pairs(embeddings, names, thresholds))
    assert common[0] < 0.1 < common[1]
    assert rare[0] < 0.005 < rare[1]
    assert rare[1] / rare[0] > common[1] / common[0]


def test_interval_of_a_mean_over_people() -> None:
    assert mean_interval(np.zeros(50), np.ones(50)) == (0, 0)
    low, high = mean_interval(np.repeat([0.0, 1.0], 50), np.ones(100))
    assert 0.38 < low < 0.45 < 0.55 < high < 0.62
    assert interval(np.arange(1001.0)) == (25, 975)


def test_calibration_ends_at_ten_pairs_above_the_threshold() -> None:
    embeddings, names = people(130, 3, 0.8)
    table = calibrate(Sample(embeddings, np.ones(len(names)), names), NOBODY, "f32", "test")
    assert table.impostor_pairs == 390 * 389 / 2 - 390
    assert table.people == 130
    assert [point.fmr for point in table.points][-1] == 3e-4
    for point in table.points:
        assert point.fmr_interval is not None
        assert point.fmr_interval[0] <= point.fmr <= point.fmr_interval[1]
    assert table.identification == []  # half of 130 people are strangers, and 65 do not fill a gallery of 100


def test_distractors_fill_larger_galleries() -> None:
    embeddings, names = people(100, 3, 0.8)
    others, _ = people(960, 1, 0.8, seed=1)
    assert largest_gallery(People(embeddings, names, others)) == 50 + 960
    table = calibrate(Sample(embeddings, np.ones(len(names)), names), others, "f32", "test")
    measured = {(point.gallery_size, point.requested_fpir): point for point in table.identification}
    assert 0.03 < measured[100, 0.1].fpir < 0.2
    assert (1000, 0.1) not in measured  # 44,000 pairs cannot measure 1.05e-4 per comparison


def test_searches_of_separated_people_have_no_errors() -> None:
    embeddings, names = people(60, 3, 0.05)
    searches = search_galleries(People(embeddings, names, NOBODY), 20)
    errors = searches.errors_at(0.9)
    assert (errors.fpir, errors.fnir) == (0, 0)
    assert searches.errors_at(-1).fpir == 1
    assert searches.errors_at(1.1).fnir == 1
    assert (rank_of_mate(People(embeddings, names, NOBODY)) == 0).all()


def test_gallery_with_too_few_people_is_rejected() -> None:
    embeddings, names = people(10, 2, 0.5)
    with pytest.raises(ValueError, match="needs more people"):
        search_galleries(People(embeddings, names, NOBODY), 6)


def test_rank_counts_the_nearer_people() -> None:
    embeddings = np.array([[1, 0], [0, 1], [0.6, 0.8]], np.float32)
    ranks = [rank_of_mate(People(embeddings, ["a", "b", "a"], np.zeros((0, 2), np.float32)), seed) for seed in range(9)]
    # Two possible probes of a: (1, 0) is nearer to (0.6, 0.8) than to b; (0.6, 0.8) is nearer to b.
    assert {tuple(rank.tolist()) for rank in ranks} == {(0,), (1,)}


def test_centroids_identify_separated_people() -> None:
    embeddings, names = people(20, 10, 0.5)
    result = centroid_identification(embeddings, names)
    assert (result.people, result.probes, result.rank_1) == (20, 100, 1.0)
    shuffled = list(np.random.default_rng(0).permutation(names))
    assert centroid_identification(embeddings, shuffled).rank_1 < 0.3


def test_discarding_noisy_pictures_lowers_the_error() -> None:
    random = np.random.default_rng(0)
    clean, names = people(80, 6, 0.3)
    noise = random.exponential(0.12, size=(len(names), 1)).astype(np.float32)
    noisy = clean + noise * random.normal(size=clean.shape).astype(np.float32)
    noisy /= np.linalg.norm(noisy, axis=1, keepdims=True)
    helpful = error_versus_discard(noisy, names, -noise[:, 0], fmr=1e-2)
    useless = error_versus_discard(noisy, names, random.random(len(names)), fmr=1e-2)
    at_ten = {point.fraction: point.fnmr for point in helpful}[0.1]
    assert helpful[0].fnmr == useless[0].fnmr > 0.02
    assert at_ten < 0.5 * helpful[0].fnmr
    assert {point.fraction: point.fnmr for point in useless}[0.1] > 0.8 * useless[0].fnmr


def test_threshold_for_n_templates_keeps_the_false_match_rate() -> None:
    embeddings, names = people(150, 6, 1.0)
    table = calibrate(Sample(embeddings, np.ones(len(names)), names), NOBODY, "f32", "test")
    figures = {(figure.templates, figure.requested): figure for figure in several_templates(embeddings, names, table)}
    assert figures[1, 0.01].fmr == pytest.approx(0.01, rel=0.25)
    assert figures[5, 0.01].fmr_plain > 0.025
    assert figures[5, 0.01].fmr < 0.0125
    assert figures[5, 0.01].fnmr < figures[1, 0.01].fnmr


def test_reference_lengths_are_percentiles() -> None:
    lengths = reference_lengths(Sample(NOBODY, np.arange(1001, dtype=np.float32), []))
    assert (len(lengths), lengths[0], lengths[50], lengths[100]) == (101, 0, 500, 1000)


def test_calibration_of_12_people_is_short_and_of_4_people_rejected() -> None:
    embeddings, names = people(12, 6, 0.5)
    table = calibrate(Sample(embeddings, np.ones(len(names)), names), NOBODY, "f32", "test")
    for point in table.points:
        assert point.fmr_interval is not None
        assert np.isfinite([*point.fmr_interval, *(point.fnmr_interval or ())]).all()
    embeddings, names = people(4, 20, 0.5)
    with pytest.raises(ConfigError, match="4 held-out people"):
        calibrate(Sample(embeddings, np.ones(len(names)), names), NOBODY, "f32", "test")
    assert error_versus_discard(embeddings, names, np.ones(len(names))) == []


def test_calibrate_measures_a_shipped_bundle_on_other_people(ten_people: Path, tmp_path: Path) -> None:
    """Writes into a copy, and does not overwrite a table that covers lower rates."""
    before = (BUNDLES / "embedder" / "manifest.json").read_bytes()
    arguments = ["calibrate", "--identities", str(ten_people), "--everybody", "--work", str(tmp_path / "work")]
    refused = CliRunner().invoke(app, arguments)
    assert "name --output for a calibrated copy of the shipped bundle" in str(refused.exception)
    refused = CliRunner().invoke(app, [*arguments, "--bundle", str(BUNDLES / "embedder")])
    assert isinstance(refused.exception, ConfigError)
    assert "ends at a false match rate of 0.1 (10 people)" in str(refused.exception)
    without_split = [*arguments[:3], *arguments[4:], "--bundle", str(BUNDLES / "embedder-fairface")]
    unknown = CliRunner().invoke(app, [*without_split, "--output", str(tmp_path / "copy")])
    assert "does not record which people were held out" in str(unknown.exception)
    assert (BUNDLES / "embedder" / "manifest.json").read_bytes() == before
    copy = tmp_path / "copy"
    written = CliRunner().invoke(app, [*arguments, "--output", str(copy)])
    assert written.exit_code == 0, written.exception
    table = FaceEmbedder(copy, RuntimeOptions()).manifest.calibration
    assert table is not None
    assert (table.people, table.points[-1].fmr) == (10, 0.1)
    assert table.data.startswith("10 people, stated not to be in the training data")
    again = CliRunner().invoke(app, [*arguments, "--bundle", str(copy)])  # the new table covers the same rates
    assert again.exit_code == 0, again.exception


def test_a_table_in_another_number_format_is_added(tmp_path: Path) -> None:
    embeddings, names = people(12, 6, 0.5)
    sample = Sample(embeddings, np.ones(len(names)), names)
    copy = tmp_path / "copy"
    calibration_record.record(BUNDLES / "embedder-fairface", copy, calibrate(sample, NOBODY, "bf16", "first"), sample)
    calibration_record.record(copy, copy, calibrate(sample, NOBODY, "bf16", "second"), sample)
    before, manifest = read_embedder(BUNDLES / "embedder-fairface"), read_embedder(copy)
    assert (manifest.calibration, manifest.reference_lengths) == (before.calibration, before.reference_lengths)
    [added] = manifest.further_calibrations
    assert (added.precision, added.data, added.picture) == ("bf16", "second", None)
    assert manifest.calibration_for("bf16") == added
    assert manifest.calibration_for("f32") == manifest.calibration
    assert before.calibration_for("bf16") == before.calibration
    assert manifest.files == before.files

    cohort = Cohort(np.eye(8, 128, dtype=np.float32), np.zeros((8, 128), np.float32), 10.0)
    output = tmp_path / "with-cohort"
    cohort_record.record(copy, output, manifest, cohort, "with-cohort", CONFIG, "test")
    corrected, uncorrected = read_embedder(output).models
    assert corrected.calibrations == []
    assert [item.picture for item in uncorrected.calibrations] == ["det-uncorrected.svg", None]


def test_unrelated_faces_calibrate_false_matches_only(ten_people: Path, tmp_path: Path) -> None:
    """One picture of each person: there is no FNMR, no DET curve and no search; the service decides with the table."""
    faces = tmp_path / "faces"
    faces.mkdir()
    for number, person in enumerate(sorted(ten_people.iterdir())):
        shutil.copy(sorted(person.iterdir())[0], faces / f"{number}.webp")
    for number in range(10, 16):  # ten pairs above the threshold of FMR 0.1 need sixteen pictures
        shutil.copy(faces / f"{number - 10}.webp", faces / f"{number}.webp")
    arguments = ["calibrate", "--identities", str(faces), "--unrelated", "--work", str(tmp_path / "work"), "--output"]
    written = CliRunner().invoke(app, [*arguments, str(tmp_path / "copy")])
    assert written.exit_code == 0, written.exception
    manifest = FaceEmbedder(tmp_path / "copy", RuntimeOptions()).manifest
    table = manifest.calibration
    assert table is not None
    assert (table.people, table.genuine_pairs, table.impostor_pairs, table.picture) == (16, 0, 120, None)
    assert [point.fmr for point in table.points] == [0.3, 0.1]
    assert all(point.fnmr is None and point.fmr_interval is not None for point in table.points)
    assert table.threshold_for(0.2) > table.points[0].threshold
    assert "one picture of each: false matches only" in written.output
    both = CliRunner().invoke(app, [*arguments, str(tmp_path / "both"), "--everybody"])
    assert "name --everybody" in str(both.exception)


def test_photos_without_pairs_csv_are_rejected(tmp_path: Path) -> None:
    arguments = ["evaluate", "--pairs", str(tmp_path), "--work", str(tmp_path / "work")]
    refused = CliRunner().invoke(app, arguments)
    assert isinstance(refused.exception, ConfigError)
    assert "has no pairs.csv" in str(refused.exception)
