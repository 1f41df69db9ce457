"""Tests that no model is measured on people who trained it."""

from pathlib import Path

import pytest
from typer.testing import CliRunner

from service.inference.bundle import file_sha256, read_embedder, write_manifest
from service.inference.manifest import HeldOut
from service.runtime.settings import BUNDLES
from trainer.__main__ import app
from trainer.configuration import ConfigError
from trainer.embedder import training_people
from trainer.embedder.calibration_record import copy_bundle
from trainer.embedder.split import Part, part_of
from trainer.embedder.split_config import SplitConfig
from trainer.embedder.training_people import HashedNames, TrainingPeople

SPLIT = SplitConfig(validation=0.2, calibration=0.3, held_out=("Ada",), wrong_labels=("Bob",))
NAMES = ["Ada", "Bob", *(f"person {number}" for number in range(100))]


def test_names_are_found_by_their_hashes_only() -> None:
    first, second = HashedNames.of(["Grace Hopper", "Ada"]), HashedNames.of(["Ada", "Grace Hopper"])
    assert set(first.hashes).isdisjoint(second.hashes)  # the salts differ
    assert first.find(["grace_hopper", "Grace  Hopper", "Grace", "Ada Lovelace"]) == ["Grace  Hopper", "grace_hopper"]
    assert "Hopper" not in first.model_dump_json()


def test_people_who_trained_or_selected_are_found() -> None:
    people = TrainingPeople.of([*NAMES, ""], SPLIT)
    measured = {name for name in NAMES if part_of(name, SPLIT) in (Part.CALIBRATION, Part.LEFT_OUT)}
    assert people.find_trained(NAMES) == sorted(set(NAMES) - measured)
    assert "Ada" not in people.find_trained(NAMES)


def test_people_of_earlier_trainings_stay_recorded() -> None:
    before = TrainingPeople.of(["first"], SplitConfig(validation=0, calibration=0))
    after = TrainingPeople.of(["second"], SplitConfig(validation=0, calibration=0), before)
    assert after.find_trained(["first", "second", "third"]) == ["first", "second"]


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A copy of a shipped bundle that was trained with the people of NAMES."""
    folder = tmp_path / "bundle"
    copy_bundle(BUNDLES / "embedder-fairface", folder)
    file = training_people.write(TrainingPeople.of(NAMES, SPLIT), folder)
    manifest = read_embedder(folder)
    changes = {"files": manifest.files | {file.name: file_sha256(file)}}
    changes["split"] = HeldOut(validation=SPLIT.validation, calibration=SPLIT.calibration)
    write_manifest(folder, manifest.model_copy(update=changes))
    return folder


def test_the_split_of_the_training_is_recorded_in_the_bundle(bundle: Path, tmp_path: Path) -> None:
    """Also the people whom its configuration names, although the bundle contains no names."""
    recorded = training_people.recorded_split(bundle, read_embedder(bundle), None, NAMES)
    assert [part_of(name, recorded) for name in NAMES] == [part_of(name, SPLIT) for name in NAMES]
    with pytest.raises(ConfigError, match="records which people were held out of its training; omit --config"):
        training_people.recorded_split(bundle, read_embedder(bundle), tmp_path / "other.yaml", NAMES)


def test_a_measurement_on_training_people_is_refused(bundle: Path, ten_people: Path, tmp_path: Path) -> None:
    manifest = read_embedder(bundle)
    measured = [name for name in NAMES if part_of(name, SPLIT) is Part.CALIBRATION]
    training_people.require_untrained(bundle, manifest, measured)
    trained = next(name for name in NAMES if part_of(name, SPLIT) is Part.TRAIN)
    with pytest.raises(ConfigError, match=rf"trained with 1 of these people \({trained}\)"):
        training_people.require_untrained(bundle, manifest, [*measured, trained])
    known = sorted(path.name for path in ten_people.iterdir())
    file = training_people.write(TrainingPeople.of(known[:1], SplitConfig(validation=0, calibration=0)), bundle)
    write_manifest(bundle, manifest.model_copy(update={"files": manifest.files | {file.name: file_sha256(file)}}))
    arguments = ["calibrate", "--identities", str(ten_people), "--everybody", "--bundle", str(bundle)]
    refused = CliRunner().invoke(app, [*arguments, "--work", str(tmp_path / "work"), "--output", str(tmp_path / "out")])
    assert f"was trained with 1 of these people ({known[0]})" in str(refused.exception)
    assert not (tmp_path / "out").exists()


def test_the_shipped_embedder_records_its_people() -> None:
    manifest = read_embedder(BUNDLES / "embedder")
    people = training_people.read(BUNDLES / "embedder", manifest)
    assert people is not None
    assert len(people.trained[0].hashes) > 3_000
    assert manifest.split == HeldOut(validation=0.05, calibration=0.30)
