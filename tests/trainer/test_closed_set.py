"""Closed-set training: a split by picture, its metrics, and the served classifier."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from service.inference.classifier import Classifier
from tests.trainer.small_run import RUN, STAGE
from trainer.__main__ import app
from trainer.classifier import closed_set
from trainer.configuration import ConfigError
from trainer.embedder.aligned_crops import load_aligned_crops
from trainer.embedder.classification import classifier_of, imprint
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.data import FaceData
from trainer.embedder.loss_config import LossesConfig
from trainer.embedder.losses import StageLoss
from trainer.embedder.training_log import read_curves

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's hints on loaders, loggers and precision
SETTINGS = {
    **RUN,
    "split": {"by": "picture", "validation": 0.25, "calibration": 0},
    "monitor": "accuracy",
    "stages": [
        {**STAGE, "name": "one", "epochs": 2, "images_per_identity": None, "losses": {"softmax": {"scale": 16}}},
        {**STAGE, "name": "two", "epochs": 12, "images_per_identity": None, "losses": {"softmax": {"scale": 16}}},
    ],
}


def test_split_by_picture_trains_and_measures_everybody(ten_people: Path, tmp_path: Path) -> None:
    crops = load_aligned_crops(ten_people, None, tmp_path)
    data = FaceData(crops, None, EmbedderConfig.model_validate(SETTINGS))
    for rows in (data.training_rows, data.validation_rows):
        assert {crops.identities[row] for row in rows} == set(crops.identities)
    assert not set(data.training_rows) & set(data.validation_rows)
    assert data.people == len(data.names) == 10


def test_command_trains_a_classifier_that_the_service_serves(ten_people: Path, tmp_path: Path) -> None:
    config = tmp_path / "closed-set.yaml"
    config.write_text(json.dumps(SETTINGS))
    words = ["classifier", "train", "--identities", ten_people, "--config", config, "--output", tmp_path / "run"]
    result = CliRunner().invoke(app, [*map(str, words), "--work", str(tmp_path / "work")], catch_exceptions=False)
    assert "held-out pictures of 10 people; nearest centroid" in result.stdout
    curves = read_curves(tmp_path / "run" / "run")
    assert len(curves["accuracy"].values) == len(curves["validation_loss"].values) == 14
    figures = Classifier(tmp_path / "run" / "classifier").manifest.evaluation
    # The served files decide as the checkpoint that the accuracy selected.
    assert figures["accuracy"] == pytest.approx(max(curves["accuracy"].values[2:]), abs=0.051)
    report = (tmp_path / "run" / "report" / "report.html").read_text()
    assert all(part in report for part in ("Confusion matrix", "top-3 rate", "nearest centroid", "data:image/png"))


def test_the_second_stage_continues_with_the_classifier_of_the_first(ten_people: Path, tmp_path: Path) -> None:
    frozen = {**SETTINGS["stages"][1], "epochs": 1, "learning_rate": 1e-9, "freeze_batch_norm": True}  # type: ignore[index]
    first = {**SETTINGS["stages"][0], "epochs": 12}  # type: ignore[index]
    settings = EmbedderConfig.model_validate({**SETTINGS, "stages": [first, frozen]})
    crops = load_aligned_crops(ten_people, None, tmp_path)
    provenance = {"data": ["x"], "terms": "test", "initialised_from": "random"}
    trained = closed_set.train(settings, crops, "people-1", provenance, tmp_path / "run", tmp_path, None, "cpu")
    curves = read_curves(tmp_path / "run" / "run")
    *before, after = curves["validation_loss"].values
    assert min(abs(loss - after) for loss in before) < 1e-3  # a new classifier would have another loss
    assert np.isfinite(trained.centroids.probabilities).all()


def test_configurations_without_a_classifier_are_rejected() -> None:
    for change, message in (
        ({"split": {"validation": 0.2}, "monitor": "rank_1"}, "by: picture"),
        ({"stages": [{**STAGE, "losses": {"triplet": 1}}], "monitor": "rank_1"}, "trains no classifier"),
        ({"stages": [{**STAGE, "images_per_identity": None, "losses": {"softmax": 1}}]}, "trains no classifier"),
    ):
        with pytest.raises(ConfigError, match=message):
            closed_set.require_closed_set(EmbedderConfig.model_validate({**SETTINGS, **change}))


@pytest.mark.parametrize("loss", [{"softmax": {"scale": 16}}, {"arcface": 1}, {"cosface": 1}, {"adaface": 1}])
def test_an_imprinted_classifier_decides_as_the_nearest_centroid(loss: dict[str, Any]) -> None:
    terms = dict(StageLoss(LossesConfig.model_validate(loss), people=5, embedding_dim=8).terms.items())
    random = torch.Generator().manual_seed(0)
    centroids = torch.nn.functional.normalize(torch.randn(5, 8, generator=random))
    imprint(terms, centroids)
    classifier = classifier_of(terms)
    assert classifier is not None
    embeddings = 3 * torch.randn(40, 8, generator=random)
    assert torch.equal(classifier.logits(embeddings).argmax(1), (embeddings @ centroids.T).argmax(1))
