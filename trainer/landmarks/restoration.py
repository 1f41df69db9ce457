"""Restores the trainable landmark refiner of a detector bundle."""

from pathlib import Path

import torch
from torch import nn

from service.inference.bundle import read_detector
from trainer.batch_normalisation import add_only, apply, observe, read_weights
from trainer.configuration import ConfigError
from trainer.landmarks.config import LandmarkConfig
from trainer.landmarks.model import LandmarkRefiner

PREFIX = "refiner."
"""Start of the weights' names in the graph."""
FOLDED = "_bias"
"""End of the name of a bias that the exporter computed from a batch normalisation; before it stands the name of the
convolution's weight."""


def restore(bundle: Path, config: LandmarkConfig, crops: torch.Tensor) -> LandmarkRefiner:
    """Returns the bundle's refiner as a model that computes what the bundle's graph computes.

    Args:
        crops: (n, 3, size, size) uint8 training crops, from which the statistics of the batch normalisations are
            estimated.

    Raises:
        ConfigError: the bundle has no refiner, or the graph has another architecture than `config`.
    """
    stage = read_detector(bundle).landmark_stage
    if stage is None:
        raise ConfigError(f"{bundle} has no landmark refiner to start from")
    weights = {name.removeprefix(PREFIX): value for name, value in read_weights(bundle / stage.graph).items()}
    model = LandmarkRefiner(config.input_size, config.width)
    layers = _normalisations(model)
    expected = {name: value for name, value in model.state_dict().items() if not _belongs_to(name, layers)}
    biases = {convolution + FOLDED: layer for convolution, layer in layers.items()}
    shapes = {name: tuple(value.shape) for name, value in expected.items()}
    shapes |= {name: (layer.num_features,) for name, layer in biases.items()}
    if any(name not in weights or tuple(weights[name].shape) != shape for name, shape in shapes.items()):
        raise ConfigError(f"{bundle}: the refiner has another input_size or width than the configuration")
    with torch.no_grad():
        for name, value in expected.items():
            value.copy_(weights[name])
    for name, layer in biases.items():
        add_only(layer, weights[name])
    observed = observe(layers.values())
    with torch.inference_mode():
        model.eval()(crops.float())
    apply(observed)
    return model.train()


def _normalisations(model: LandmarkRefiner) -> dict[str, nn.BatchNorm2d]:
    """Returns each batch normalisation by the name of the weight of the convolution before it."""
    modules = dict(model.named_modules())
    return {
        f"{name.rpartition('.')[0]}.0.weight": module
        for name, module in modules.items()
        if isinstance(module, nn.BatchNorm2d)
    }


def _belongs_to(name: str, layers: dict[str, nn.BatchNorm2d]) -> bool:
    """Returns True if a value of the state belongs to a batch normalisation, which is the second of its block."""
    owner, _, _ = name.rpartition(".")
    block, _, position = owner.rpartition(".")
    return position == "1" and f"{block}.0.weight" in layers
