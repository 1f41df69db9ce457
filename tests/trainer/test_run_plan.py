"""The plan of `identity-trainer run`, its comparison, and what it says about the service's decisions."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.inference.calibration import Calibration, CalibrationPoint, rate_of_one
from service.runtime.use_case_sections import RecognitionSettings
from trainer.choices import Training
from trainer.configuration import ConfigError
from trainer.datasets.photos import LabelledPhoto, SourcePart
from trainer.embedder.calibration import Sample
from trainer.embedder.split import Part, fitted_split, part_of
from trainer.run import decisions
from trainer.run.comparison import compare
from trainer.run.plan import MIN_PEOPLE, MIN_TRAINED_PEOPLE, divided, plan

counts_of_people = st.dictionaries(st.text("abcdefgh", min_size=1, max_size=6), st.integers(1, 200), min_size=10)


@given(counts_of_people)
@settings(deadline=None)
def test_every_plan_can_be_executed(counts: dict[str, int]) -> None:
    used = [min(count, 20) for count in counts.values()]
    if max(used) == 1 or sum(used) ** 2 - sum(count**2 for count in used) < 200:
        with pytest.raises(ConfigError, match="too few"):
            plan(counts, Training.AUTO)
        return
    planned = plan(counts, Training.AUTO)
    parts = [planned.people_of(part) for part in (Part.TRAIN, Part.VALIDATION, Part.CALIBRATION)]
    assert sorted(name for people in parts for name in people) == sorted(counts)
    assert len(parts[2]) >= MIN_PEOPLE
    assert planned.seconds("cpu") > 0
    if planned.config is None:
        assert planned.reason
        return
    trained = {name: counts[name] for name in parts[0] if counts[name] > 1}
    assert len(trained) >= MIN_TRAINED_PEOPLE
    for stage in planned.config.stages:
        assert stage.identities_per_batch
        assert stage.images_per_identity
        assert stage.identities_per_batch <= len(trained)
        assert stage.batch_size <= sum(trained.values())


@given(st.sets(st.text("abcdefgh", min_size=1, max_size=8), min_size=3, max_size=60), st.data())
@settings(deadline=None)
def test_fitted_split_holds_out_exactly_the_requested_numbers(names: set[str], data: st.DataObject) -> None:
    validation = data.draw(st.integers(0, len(names) - 1))
    calibration = data.draw(st.integers(0, len(names) - 1 - validation))
    parts = [part_of(name, fitted_split(names, validation, calibration)) for name in names]
    assert (parts.count(Part.VALIDATION), parts.count(Part.CALIBRATION)) == (validation, calibration)


@pytest.mark.parametrize(("people", "photos"), [(40, 20), (60, 16), (100, 2), (1000, 2)])
def test_enough_people_train(people: int, photos: int) -> None:
    planned = plan({f"person {number}": photos for number in range(people)}, Training.AUTO)
    assert planned.config is not None
    assert planned.seconds("cpu") < 60 * 60


@pytest.mark.parametrize(("people", "photos"), [(10, 2), (20, 10), (30, 50)])
def test_few_people_only_calibrate(people: int, photos: int) -> None:
    counts = {f"person {number}": photos for number in range(people)}
    planned = plan(counts, Training.AUTO)
    assert planned.config is None
    assert "so few people do not improve a model" in planned.reason
    assert len(planned.people_of(Part.CALIBRATION)) == people
    with pytest.raises(ConfigError, match="--training always"):
        plan(counts, Training.ALWAYS)


def test_too_few_people_or_photos_are_rejected() -> None:
    for counts in ({"a": 9, "b": 9}, {f"{number}": 1 for number in range(50)}):
        with pytest.raises(ConfigError, match="are too few: thresholds need at least 10 people"):
            plan(counts, Training.AUTO)
    assert plan({f"{number}": 5 for number in range(100)}, Training.NEVER).reason == "--training never"


def test_people_whom_the_data_set_holds_out_do_not_train() -> None:
    def photos(part: SourcePart, *names: str) -> list[LabelledPhoto]:
        return [LabelledPhoto(None, name, part) for name in names]  # type: ignore[arg-type]

    train = photos(SourcePart.TRAIN, *(f"t{number}" for number in range(40)))
    held_out = photos(SourcePart.HELD_OUT, *(f"h{number}" for number in range(12)))
    chosen = divided([*train, *held_out])
    planned = plan({photo.identity: 4 for photo in [*train, *held_out]}, Training.AUTO, chosen)
    assert planned.people_of(Part.CALIBRATION) == sorted(photo.identity for photo in held_out)
    few = divided([*train, *held_out[:9]])
    too_few = plan({photo.identity: 4 for photo in [*train, *held_out[:9]]}, Training.AUTO, few)
    assert too_few.config is None
    assert "the 9 held-out people have too few photos" in too_few.reason
    # The same people in both folders divide photos, not people.
    assert divided([*train, *photos(SourcePart.HELD_OUT, "t1")]) == frozenset()


def test_comparison_finds_a_better_model_and_no_difference_between_equal_ones() -> None:
    random = np.random.default_rng(0)
    names = [f"{person}" for person in range(30) for _ in range(10)]
    centres = random.normal(size=(30, 32)).repeat(10, axis=0)

    def sample(noise: float) -> Sample:
        vectors = centres + noise * np.random.default_rng(1).normal(size=centres.shape)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return Sample(vectors.astype(np.float32), np.ones(len(names), np.float32), names)

    better = compare(sample(1.2), sample(0.6))
    assert better.helped
    assert better.decisive.fmr == 1e-3
    assert better.decisive.after > better.decisive.before
    low, high = better.decisive.interval
    assert low <= better.decisive.after - better.decisive.before <= high
    worse, same = compare(sample(0.6), sample(1.2)), compare(sample(1.0), sample(1.0))
    assert worse.harmed
    assert not worse.helped
    assert not same.helped
    assert not same.harmed


def calibration(lowest: float) -> Calibration:
    rates = [rate for rate in (0.1, 0.01, 0.003, 0.001, 1e-4, 1e-5) if rate >= lowest]
    points = [CalibrationPoint(fmr=rate, threshold=0.1 * number, fnmr=0) for number, rate in enumerate(rates)]
    return Calibration(precision="f32", impostor_pairs=1, genuine_pairs=1, data="test", points=points)


def test_described_defaults_are_those_of_the_service() -> None:
    service = RecognitionSettings()
    assert (service.fmr, service.duplicate_fpir) == (decisions.DEFAULT_FMR, decisions.DEFAULT_DUPLICATE_FPIR)


@pytest.mark.parametrize("lowest", [0.003, 0.001, 1e-4, 1e-5])
def test_described_number_of_templates_is_the_largest_that_is_calibrated(lowest: float) -> None:
    most = decisions.largest_templates(calibration(lowest))
    if most:
        assert rate_of_one(decisions.DEFAULT_FMR, most) >= lowest * (1 - 1e-9)
    assert rate_of_one(decisions.DEFAULT_FMR, most + 1) < lowest


def test_a_setting_is_recommended_where_the_default_does_not_decide() -> None:
    assert decisions.default_setting(calibration(1e-5), 20) == ""
    assert decisions.default_setting(calibration(1e-4), 20) == "REGISTRY_RECOGNITION__FMR=0.003"
    short = decisions.describe(calibration(0.003), 2)
    assert "The calibration does not reach it" in short
    assert "REGISTRY_RECOGNITION__FMR=0.01" in short
    assert "up to one template" in decisions.describe(calibration(0.001), 5)
