"""Restores a trainable Ultralytics model from a detector bundle, so that training can continue from it."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import trainer.quiet_ultralytics  # noqa: F401  isort: skip
import numpy as np
import torch
from torch import nn
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.tasks import PoseModel

from service.inference.bundle import read_detector
from service.vision.geometry import letterbox
from service.vision.image import ImageLimits, Pixels, decode
from trainer.batch_normalisation import add_only, apply, observe, read_weights
from trainer.configuration import ConfigError
from trainer.detector.config import DetectorConfig
from trainer.detector.labels import LANDMARKS
from trainer.progress import track

STATISTICS_PICTURES = 192
"""Number of training pictures from which the statistics of the batch normalisations are estimated."""
BATCH = 8


def restore(bundle: Path, architecture: str, pictures: Iterable[Pixels], size: int) -> PoseModel:
    """Returns the bundle's detector as an Ultralytics model that computes what the bundle's graph computes.

    The exporter folds batch normalisations into the convolutions. This function inserts them again: each gets the mean
    and variance of its input on `pictures`, and a scale and shift that cancel them. A training step, which normalises
    by the statistics of its batch, therefore starts close to the exported graph.

    Args:
        architecture: name of a model description of Ultralytics, such as "yolo11n-pose.yaml".
        pictures: (height, width, 3) pictures that are typical of the training data.
        size: side in pixels to which pictures are letterboxed.

    Raises:
        ConfigError: the bundle's graph has another architecture.
    """
    weights = read_weights(bundle / read_detector(bundle).graph)
    model = _untrained_model(architecture, weights)
    layers = _load_weights(model, weights, bundle, architecture)
    _estimate_statistics(model, layers, pictures, size)
    return model


def restored_checkpoint(bundle: Path, config: DetectorConfig, data: Path, output: Path) -> Path:
    """Writes the bundle's detector as the Ultralytics checkpoint `restored.pt` into `output` and returns its path.

    Raises:
        ConfigError: the bundle's graph has another architecture than `config` names.
    """
    paths = sorted(path for path in (data / "images" / "train").iterdir() if path.is_file())
    chosen = np.random.default_rng(config.seed).permutation(len(paths))[:STATISTICS_PICTURES]
    progress = track(chosen, description="restoring the detector")
    pictures = (decode(paths[index].read_bytes(), ImageLimits()) for index in progress)
    model = restore(bundle, config.architecture, pictures, config.image_size)
    output.mkdir(parents=True, exist_ok=True)
    path = output / "restored.pt"
    torch.save({"model": model, "train_args": {}}, path)
    return path


def _untrained_model(architecture: str, weights: dict[str, torch.Tensor]) -> PoseModel:
    """Returns a model of one class whose class branches are as wide as those of the graph.

    Ultralytics keeps the width of the model that training started from, which may have had more classes.
    """
    model = _pose_model(architecture, classes=1)
    layers: Any = model.model
    score = weights.get(f"model.{len(layers) - 1}.cv3.0.2.weight")
    if score is not None and score.shape[1] != layers[-1].cv3[0][-1].in_channels:
        width = score.shape[1]
        wider: Any = _pose_model(architecture, classes=width).model
        layers[-1].cv3 = wider[-1].cv3
        for branch in layers[-1].cv3:
            branch[-1] = nn.Conv2d(branch[-1].in_channels, 1, 1)
    return model


def _pose_model(architecture: str, classes: int) -> PoseModel:
    return PoseModel(architecture, nc=classes, ch=3, data_kpt_shape=[LANDMARKS, 3], verbose=False)


def _load_weights(model: PoseModel, weights: dict[str, torch.Tensor], bundle: Path, architecture: str) -> list[Conv]:
    """Copies the graph's weights; each batch normalisation then adds the bias that was folded into its convolution.

    Returns:
        The convolutions with a batch normalisation.
    """
    folded = {f"{name}.conv.bias": module for name, module in model.named_modules() if isinstance(module, Conv)}
    plain = {name: value for name, value in model.state_dict().items() if ".bn." not in name}
    expected = {name: tuple(value.shape) for name, value in plain.items()}
    expected |= {name: (module.conv.out_channels,) for name, module in folded.items()}
    if expected != {name: tuple(value.shape) for name, value in weights.items()}:
        raise ConfigError(
            f"{bundle}: the graph is not a {architecture} with five landmarks; set `architecture` in the configuration "
            "to the one that the bundle was trained with, or start from a checkpoint with --initial"
        )
    with torch.no_grad():
        for name, value in plain.items():
            value.copy_(weights[name])
        for name, module in folded.items():
            add_only(module.bn, weights[name])
    return list(folded.values())


def _estimate_statistics(model: PoseModel, layers: list[Conv], pictures: Iterable[Pixels], size: int) -> None:
    """Runs the model on the pictures and sets mean and variance of every batch normalisation."""
    observed = observe([module.bn for module in layers])
    model.eval()
    with torch.inference_mode():
        batch: list[Pixels] = []
        for pixels in pictures:
            batch.append(letterbox(pixels, size)[0])
            if len(batch) == BATCH:
                model(_tensor(batch))
                batch.clear()
        if batch:
            model(_tensor(batch))
    apply(observed)


def _tensor(squares: list[Pixels]) -> torch.Tensor:
    """Returns (N, 3, size, size) float32 in 0...1 of N letterboxed pictures."""
    return torch.from_numpy(np.stack(squares).transpose(0, 3, 1, 2).astype(np.float32) / 255)
