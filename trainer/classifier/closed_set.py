"""Trains a classifier of a closed set of people end to end: encoder and last layer."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from service.inference.bundle import embedding_fingerprint
from service.inference.classifier import Classifier, write_classifier
from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions
from trainer.classifier.report import Measurement
from trainer.configuration import ConfigError
from trainer.embedder import export, training
from trainer.embedder.aligned_crops import AlignedCrops
from trainer.embedder.callbacks import stage_folder
from trainer.embedder.checkpoints import load_loss
from trainer.embedder.classification import LinearClassifier, classifier_of
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.data import FaceData
from trainer.embedder.embedding import embed_crops
from trainer.embedder.losses import StageLoss

Floats = npt.NDArray[np.float32]
EVALUATED = 3


@dataclass(frozen=True)
class Trained:
    """A trained classifier, measured on the held-out pictures.

    Attributes:
        classifier: predictions of the classifier.
        centroids: predictions by the nearest centroid of the training pictures, with the same embeddings.
    """

    classifier: Measurement
    centroids: Measurement


def require_closed_set(config: EmbedderConfig) -> None:
    """Raises ConfigError if the configuration does not train a classifier of pictures."""
    if config.split.by != "picture" or not config.split.validation:
        raise ConfigError("a closed set needs `split: {by: picture, validation: 0.2}` in the configuration")
    for stage in config.stages:
        losses = stage.losses
        scaled = losses.softmax is not None and losses.softmax.scale is not None
        if not (scaled or losses.arcface or losses.cosface or losses.adaface):
            raise ConfigError(
                f"stage {stage.name!r} trains no classifier of normalised embeddings; use losses: {{softmax: {{scale: "
                "16}}, or cosface, arcface or adaface"
            )


def train(
    config: EmbedderConfig,
    crops: AlignedCrops,
    name: str,
    provenance: dict[str, Any],
    output: Path,
    cache: Path,
    initial: Path | None,
    device: str,
) -> Trained:
    """Trains, writes the embedder's bundle and the classifier to `output`, and measures the served files.

    Raises:
        ConfigError: The configuration trains no classifier of pictures, or the data is insufficient.
    """
    require_closed_set(config)
    training.train(config, crops, (), cache, output / "run", initial, device)
    stage, best = _best_stage(config, output / "run")
    data = FaceData(crops, None, config, stage)
    bundle, folder = output / "bundle", output / "classifier"
    manifest = export.export(best, bundle, name, provenance)
    linear = _classifier(config, stage, best, len(data.names))
    weights, bias = linear.weights.detach().numpy(), linear.bias.detach().numpy()
    identity = manifest.model_id, embedding_fingerprint(manifest), data.names
    write_classifier(folder, name, *identity, weights, bias, {})
    embedder = FaceEmbedder(bundle, RuntimeOptions())
    measured, numbers = (
        embed_crops(embedder, crops, data.validation_rows.tolist())[0],
        data.labels[data.validation_rows],
    )
    by_classifier = Measurement(Classifier(folder).probabilities(measured), numbers, data.names)
    centres = _centroids(embed_crops(embedder, crops, data.training_rows.tolist())[0], data.labels[data.training_rows])
    by_centroid = Measurement(measured @ centres.T, numbers, data.names)
    figures = {"accuracy": by_classifier.accuracy, f"top_{EVALUATED}": by_classifier.top(EVALUATED)}
    write_classifier(folder, name, *identity, weights, bias, figures)
    return Trained(by_classifier, by_centroid)


def _best_stage(config: EmbedderConfig, run: Path) -> tuple[int, Path]:
    """Returns number and checkpoint of the stage with the best monitor: training the network may not help."""
    sign = 1 if config.mode == "max" else -1
    folders = [stage_folder(run, config, index) for index in range(len(config.stages))]
    scores = [sign * json.loads((folder / "finished.json").read_text())[config.monitor] for folder in folders]
    stage = int(np.argmax(scores))
    return stage, folders[stage] / training.BEST


def _classifier(config: EmbedderConfig, stage: int, checkpoint: Path, people: int) -> LinearClassifier:
    loss = StageLoss(config.stages[stage].losses, people, config.embedding_dim)
    load_loss(loss, checkpoint)
    classifier = classifier_of(dict(loss.terms.items()))
    assert classifier is not None
    return classifier


def _centroids(embeddings: Floats, numbers: npt.NDArray[np.int64]) -> Floats:
    """Returns the (people, D) normalised means."""
    sums = np.zeros((numbers.max() + 1, embeddings.shape[1]), np.float32)
    np.add.at(sums, numbers, embeddings)
    return np.asarray(torch.nn.functional.normalize(torch.from_numpy(sums)).numpy(), np.float32)
