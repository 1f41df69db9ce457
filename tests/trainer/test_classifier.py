"""Fits and measures a closed-set classifier."""

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from service.errors import StartupError
from service.inference.classifier import Classifier, write_classifier
from trainer.__main__ import app
from trainer.classifier.config import ClassifierConfig
from trainer.classifier.fitting import divide
from trainer.classifier.report import Measurement, write_report
from trainer.configuration import ConfigError
from trainer.embedder.aligned_crops import load_aligned_crops


def test_every_person_has_fitted_and_measured_pictures(ten_people: Path, tmp_path: Path) -> None:
    crops = load_aligned_crops(ten_people, None, tmp_path)
    config = ClassifierConfig(min_images_per_class=2, held_back=0.5)
    division = divide(crops, config)
    assert len(division.labels) == 10
    assert not set(division.fit) & set(division.measure)
    for number in range(10):
        assert (division.numbers[division.fit] == number).any()
        assert (division.numbers[division.measure] == number).any()
    again = divide(crops, config)
    np.testing.assert_array_equal(division.measure, again.measure)
    assert divide(crops, ClassifierConfig(min_images_per_class=3)).labels == ["collins-4", "hopper-4"]
    with pytest.raises(ConfigError, match="lower min_images_per_class"):
        divide(crops, ClassifierConfig(min_images_per_class=5))


def test_report_of_known_predictions(tmp_path: Path) -> None:
    probabilities = np.array([[0.7, 0.2, 0.1], [0.5, 0.4, 0.1], [0.1, 0.3, 0.6], [0.5, 0.3, 0.2]], np.float32)
    measured = Measurement(probabilities, np.array([0, 1, 2, 2]), ["ada", "grace", "zoe"])
    assert (measured.accuracy, measured.top(2), measured.top(3)) == (0.5, 0.75, 1.0)
    write_report(measured, 2, tmp_path)
    report = (tmp_path / "report.md").read_text()
    assert "| grace | 0.000 | 0.000 | 0.000 | 1 |" in report
    assert "| zoe | 1.000 | 0.500 | 0.667 | 2 |" in report
    assert "| ada | 0.333 | 1.000 | 0.500 | 1 |" in report
    assert (tmp_path / "confusion.png").stat().st_size > 5_000


def test_probabilities_are_the_softmax_of_the_linear_layer(tmp_path: Path) -> None:
    weights, bias = np.array([[1.0, 0], [0, 1]], np.float32), np.array([0.0, 0.5], np.float32)
    write_classifier(tmp_path, "people", "model", "print", ["ada", "grace"], weights, bias, {})
    classifier = Classifier(tmp_path)
    probabilities = classifier.probabilities(np.array([[1.0, 0.0]], np.float32))
    assert probabilities[0, 0] == pytest.approx(1 / (1 + np.exp(-0.5)), abs=1e-6)
    assert classifier.top(np.array([0.0, 1.0], np.float32), 1)[0][0] == "grace"
    (tmp_path / "classifier.npz").write_bytes(b"other")
    with pytest.raises(StartupError, match="SHA-256 differs"):
        Classifier(tmp_path)
    with pytest.raises(StartupError, match=r"no classifier\.json"):
        Classifier(tmp_path / "nothing")


def test_weights_with_another_number_of_labels_are_rejected(tmp_path: Path) -> None:
    write_classifier(
        tmp_path, "people", "m", "p", ["a", "b", "c"], np.ones((2, 4), np.float32), np.ones(2, np.float32), {}
    )
    with pytest.raises(StartupError, match="does not fit the 3 labels"):
        Classifier(tmp_path)


def test_classifier_is_measured_on_other_pictures(identity_folder: Path, tmp_path: Path) -> None:
    arguments = [
        "classifier",
        "fit",
        "--identities",
        identity_folder,
        "--output",
        tmp_path / "c",
        "--work",
        tmp_path / "w",
    ]
    CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert json.loads((tmp_path / "c" / "classifier.json").read_text())["evaluation"]["accuracy"] == 1.0
    shutil.copytree(identity_folder / "collins", tmp_path / "more" / "collins")
    shutil.copytree(identity_folder / "hopper", tmp_path / "more" / "stranger")
    arguments = ["classifier", "evaluate", "--identities", tmp_path / "more", "--classifier", tmp_path / "c"]
    arguments += ["--output", tmp_path / "report", "--work", tmp_path / "w2"]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)
    assert "on 12 pictures of 2 people" in done.stdout
