"""Encoders from checkpoints of our runs, and from weights of others to begin with."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from trainer.configuration import ConfigError
from trainer.embedder.backbones import build_encoder
from trainer.embedder.backbones.channels import widened
from trainer.embedder.backbones.mobilefacenet import load_published
from trainer.embedder.config import EmbedderConfig

ENCODER = "encoder."
COLOURS = 3
FEWEST_TAKEN = 0.5
"""Of the encoder's parameters: weights that fit less of it are those of another architecture."""


def load_encoder(checkpoint: Path) -> tuple[nn.Module, EmbedderConfig]:
    """The encoder of a checkpoint, in evaluation mode, and the configuration that trained it.

    Raises:
        ConfigError: no checkpoint of a run, or one of a release with other settings.
    """
    saved = _read(checkpoint)
    try:
        config = EmbedderConfig.model_validate(saved["hyper_parameters"]["config"])
    except KeyError:
        raise ConfigError(f"{checkpoint} is not a checkpoint of a training run") from None
    except ValidationError as error:
        raise ConfigError(
            f"{checkpoint} was trained by a release with other settings ({error.error_count()} are not known): begin a "
            "new run with it as --initial"
        ) from None
    encoder = build_encoder(
        config.backbone, config.embedding_dim, config.input_size, config.dropout, more_channels=config.more_channels
    )
    encoder.load_state_dict(_encoder_weights(saved))
    return encoder.eval(), config


def load_initial(encoder: nn.Module, initial: Path) -> None:
    """Begin with a checkpoint of a run, with published MobileFaceNet weights as ONNX, or with a library's weights.

    A checkpoint of ours fits wholly, or all but a head of another dimension, which then begins anew. A state dict
    (`.pt`, `.pth`, `.safetensors`) is taken as far as names and shapes fit the backbone.

    Raises:
        ConfigError: the weights are not those of the encoder.
    """
    if initial.suffix == ".onnx":
        load_published(encoder, initial)
        return
    saved = _read(initial)
    ours = "hyper_parameters" in saved
    weights = _encoder_weights(saved) if ours else _library_weights(saved.get("state_dict", saved))
    own = encoder.state_dict()
    weights = {name: _for_channels(value, own[name]) for name, value in weights.items() if name in own}
    fitting = {name: value for name, value in weights.items() if value.shape == own[name].shape}
    taken = sum(value.numel() for value in fitting.values()) / sum(value.numel() for value in own.values())
    if taken < FEWEST_TAKEN:
        raise ConfigError(f"{initial}: its weights are another architecture's ({taken:.0%} of the encoder's are in it)")
    encoder.load_state_dict(fitting, strict=False)


def _for_channels(weight: Tensor, own: Tensor) -> Tensor:
    """Weights of a model of colours alone, for one that sees landmarks as well."""
    takes_more = own.ndim == 4 and weight.ndim == 4 and own.shape[1] > weight.shape[1]
    same = weight.shape[:1] + weight.shape[2:] == own.shape[:1] + own.shape[2:]
    return widened(weight, own.shape[1]) if takes_more and same and weight.shape[1] == COLOURS else weight


def _read(file: Path) -> Mapping[str, Any]:
    if not file.is_file():
        raise ConfigError(f"{file}: no such file")
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return cast("Mapping[str, Any]", load_file(file))
    try:
        saved = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError):
        raise ConfigError(f"{file} is neither a checkpoint nor a state dict") from None
    if not isinstance(saved, Mapping):
        raise ConfigError(f"{file} holds a {type(saved).__name__}, not weights by their names")
    return cast("Mapping[str, Any]", saved)


def _encoder_weights(saved: Mapping[str, Any]) -> dict[str, Tensor]:
    states = saved["state_dict"].items()
    return {name.removeprefix(ENCODER): value for name, value in states if name.startswith(ENCODER)}


def _library_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Under the names that an encoder of ours has for them."""
    return {f"backbone.{name.removeprefix('module.')}": value for name, value in state.items()}
