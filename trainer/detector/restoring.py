"""From a detector bundle back to a checkpoint that training goes on from."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import trainer.quiet_ultralytics  # noqa: F401  isort: skip
import numpy as np
import onnx
import torch
from onnx import numpy_helper
from rich.progress import track
from torch import nn
from ultralytics.nn.modules.conv import Conv
from ultralytics.nn.tasks import PoseModel

from service.inference.bundle import read_detector
from service.vision.geometry import letterbox
from service.vision.image import ImageLimits, Pixels, decode
from trainer.configuration import ConfigError
from trainer.detector.config import DetectorConfig
from trainer.detector.labels import LANDMARKS
from trainer.half_storage import SUFFIX

PICTURES = 192
"""That give the normalisations their statistics."""
AT_ONCE = 8


def restore(bundle: Path, architecture: str, pictures: Iterable[Pixels], size: int) -> PoseModel:
    """The bundle's detector as an Ultralytics model that can be trained.

    An exported graph has its batch normalisations folded into the convolutions. Here each gets back the statistics of
    what it sees in `pictures`, and a scale and shift that undo them: the model computes what the graph computes, and a
    training step, which normalises by its batch, begins near to it.

    Raises:
        ConfigError: the bundle's graph is of another architecture.
    """
    weights = _weights(bundle / read_detector(bundle).graph)
    model = _untrained(architecture, weights)
    folded = _load(model, weights, bundle, architecture)
    _settle(model, folded, pictures, size)
    return model


def restored_checkpoint(bundle: Path, config: DetectorConfig, data: Path, output: Path) -> Path:
    """Write `restored.pt` into the run folder: the bundle's detector as a checkpoint, as Ultralytics reads it."""
    paths = sorted(path for path in (data / "images" / "train").iterdir() if path.is_file())
    chosen = np.random.default_rng(config.seed).permutation(len(paths))[:PICTURES]
    shown = track(chosen, description="restoring the detector")
    pictures = (decode(paths[index].read_bytes(), ImageLimits()) for index in shown)
    model = restore(bundle, config.architecture, pictures, config.image_size)
    output.mkdir(parents=True, exist_ok=True)
    path = output / "restored.pt"
    torch.save({"model": model, "train_args": {}}, path)
    return path


def _weights(graph: Path) -> dict[str, torch.Tensor]:
    return {
        tensor.name.removesuffix(SUFFIX): torch.from_numpy(numpy_helper.to_array(tensor).astype(np.float32))
        for tensor in onnx.load(graph).graph.initializer
    }


def _untrained(architecture: str, weights: dict[str, torch.Tensor]) -> PoseModel:
    """A model of one class whose class branches are as wide as the graph's: Ultralytics keeps an initial model's."""
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


def _load(model: PoseModel, weights: dict[str, torch.Tensor], bundle: Path, architecture: str) -> list[Conv]:
    """Fill the convolutions; normalisations only add the bias that was folded into them."""
    folded = {f"{name}.conv.bias": module for name, module in model.named_modules() if isinstance(module, Conv)}
    plain = {name: value for name, value in model.state_dict().items() if ".bn." not in name}
    expected = {name: tuple(value.shape) for name, value in plain.items()}
    expected |= {name: (module.conv.out_channels,) for name, module in folded.items()}
    if expected != {name: tuple(value.shape) for name, value in weights.items()}:
        raise ConfigError(
            f"{bundle}: its graph is no {architecture} with five landmarks; name the architecture that it was trained "
            "with in the settings, or begin with --initial"
        )
    with torch.no_grad():
        for name, value in plain.items():
            value.copy_(weights[name])
        for name, module in folded.items():
            _normalise(module.bn, torch.zeros(1), torch.tensor(1 - module.bn.eps))
            module.bn.weight.fill_(1)
            module.bn.bias.copy_(weights[name])
    return list(folded.values())


def _settle(model: PoseModel, folded: list[Conv], pictures: Iterable[Pixels], size: int) -> None:
    moments = {module: _Moments(module.bn) for module in folded}
    model.eval()
    with torch.inference_mode():
        batch: list[Pixels] = []
        for pixels in pictures:
            batch.append(letterbox(pixels, size)[0])
            if len(batch) == AT_ONCE:
                model(_tensor(batch))
                batch.clear()
        if batch:
            model(_tensor(batch))
    for module, seen in moments.items():
        seen.give(module.bn)


class _Moments:
    """Mean and variance of each channel that enters a normalisation, over all that passes while it watches."""

    def __init__(self, layer: nn.BatchNorm2d) -> None:
        self._count = 0
        self._sum = torch.zeros(layer.num_features, dtype=torch.float64)
        self._squares = torch.zeros(layer.num_features, dtype=torch.float64)
        self._hook = layer.register_forward_pre_hook(self._watch)

    def _watch(self, _: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        values = inputs[0].double()
        self._count += values.numel() // values.shape[1]
        self._sum += values.sum(dim=(0, 2, 3))
        self._squares += values.square().sum(dim=(0, 2, 3))

    def give(self, layer: nn.BatchNorm2d) -> None:
        """Normalise by these, and undo it by scale and shift."""
        self._hook.remove()
        if not self._count:
            return
        mean = self._sum / self._count
        variance = (self._squares / self._count - mean.square()).clamp_min(0)
        with torch.no_grad():
            _normalise(layer, mean, variance)
            layer.weight.copy_((variance + layer.eps).sqrt())
            layer.bias.add_(mean.float())


def _normalise(layer: nn.BatchNorm2d, mean: torch.Tensor, variance: torch.Tensor) -> None:
    assert layer.running_mean is not None
    assert layer.running_var is not None
    layer.running_mean.copy_(mean)
    layer.running_var.copy_(variance)


def _tensor(squares: list[Pixels]) -> torch.Tensor:
    return torch.from_numpy(np.stack(squares).transpose(0, 3, 1, 2).astype(np.float32) / 255)
