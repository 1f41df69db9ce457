"""Loads encoders from checkpoints, and initial weights from checkpoints, ONNX files and state dicts."""

import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from pydantic import ValidationError
from torch import Tensor, nn

from service.inference.bundle import read_embedder
from trainer.configuration import ConfigError
from trainer.embedder.backbones import build_encoder
from trainer.embedder.backbones.building import BUILT_IN
from trainer.embedder.backbones.channels import widened
from trainer.embedder.backbones.graph_weights import GraphWeights
from trainer.embedder.backbones.libraries import FACENET_OWN_LAYER
from trainer.embedder.backbones.mobilefacenet import load_published
from trainer.embedder.backbones.mobilenet_v1 import MobileNetV1
from trainer.embedder.backbones.residual import ResidualSmall, load_residual
from trainer.embedder.backbones.sface import load_exported
from trainer.embedder.config import EmbedderConfig

ENCODER = "encoder."
LOSS = "_loss."
OF_INITIAL = "initial"
"""`backbone` of a configuration that takes the architecture of the initial weights."""
SCALING = "scaling.factor", "scaling.offset"
COLOURS = 3
MIN_MATCHING = 0.5
"""Fraction of the encoder's parameters; initial weights that match fewer belong to another architecture."""


def load_encoder(checkpoint: Path) -> tuple[nn.Module, EmbedderConfig]:
    """Returns the encoder of a checkpoint, in evaluation mode, and the configuration that trained it.

    Raises:
        ConfigError: The file is not a checkpoint of a run, or another release wrote it with other settings.
    """
    saved = read_mapping(checkpoint)
    try:
        config = EmbedderConfig.model_validate(saved["hyper_parameters"]["config"])
    except KeyError:
        raise ConfigError(f"{checkpoint} is not a checkpoint of a training run") from None
    except ValidationError as error:
        raise ConfigError(
            f"{checkpoint} was trained by a release with other settings ({error.error_count()} are unknown); start a "
            "new run with --initial and this file"
        ) from None
    encoder = build_encoder(
        config.backbone, config.embedding_dim, config.input_size, config.dropout, more_channels=config.more_channels
    )
    weights = _encoder_weights(saved)
    if SCALING[0] in encoder.state_dict() and SCALING[0] not in weights:  # trained before encoders contained a scaling
        weights |= {SCALING[0]: torch.ones_like(encoder.state_dict()[SCALING[0]])}
        weights |= {SCALING[1]: torch.zeros_like(encoder.state_dict()[SCALING[1]])}
    encoder.load_state_dict(weights)
    return encoder.eval(), config


def open_encoder(
    checkpoint: Path | None, config: Path | None, initial: Path | None
) -> tuple[nn.Module, EmbedderConfig]:
    """Returns the encoder of a checkpoint, or of a configuration with published weights or weights of a file.

    Raises:
        ConfigError: Not exactly one of checkpoint and configuration is named, or the encoder would have random weights.
    """
    if (checkpoint is None) == (config is None):
        raise ConfigError("name either --checkpoint, or --config of an encoder with published weights")
    if checkpoint is not None:
        return load_encoder(checkpoint)
    assert config is not None
    settings = EmbedderConfig.load(config)
    if not settings.pretrained and initial is None:
        raise ConfigError(f"the encoder of {config} has random weights: set pretrained, or name weights with --initial")
    if not settings.backbone.endswith(FACENET_OWN_LAYER.rpartition(":")[2]) and initial is None:
        raise ConfigError(
            f"the embedding layer of {settings.backbone} has no published weights; train it, or use {FACENET_OWN_LAYER}"
        )
    encoder = build_encoder(
        settings.backbone,
        settings.embedding_dim,
        settings.input_size,
        settings.dropout,
        settings.pretrained,
        settings.more_channels,
        settings.pixel_statistics,
    )
    if initial is not None:
        load_initial(encoder, initial)
    return encoder.eval(), settings


def load_initial(encoder: nn.Module, initial: Path) -> None:
    """Loads initial weights: a bundle, a checkpoint, published MobileFaceNet's graph, or a state dict.

    A head with another embedding dimension keeps its random weights. A state dict (`.pt`, `.pth`, `.safetensors`) may
    match the backbone partly: parameters with other names or shapes are ignored.

    Raises:
        ConfigError: The weights match less than half of the encoder.
    """
    initial = graph_of(initial)
    if initial.suffix == ".onnx":
        _load_graph(encoder, initial)
        return
    saved = read_mapping(initial)
    is_checkpoint = "hyper_parameters" in saved
    weights = _encoder_weights(saved) if is_checkpoint else _library_weights(saved.get("state_dict", saved))
    own = encoder.state_dict()
    weights = {name: _for_channels(value, own[name]) for name, value in weights.items() if name in own}
    matching = {name: value for name, value in weights.items() if value.shape == own[name].shape}
    fraction = sum(value.numel() for value in matching.values()) / sum(value.numel() for value in own.values())
    if fraction < MIN_MATCHING:
        raise ConfigError(
            f"{initial} has the weights of another architecture: it matches {fraction:.0%} of the encoder's parameters"
        )
    encoder.load_state_dict(matching, strict=False)


def graph_of(weights: Path) -> Path:
    """Returns the graph of a bundle; other weights unchanged. Raises StartupError for an invalid bundle."""
    return weights / read_embedder(weights).graph if weights.is_dir() else weights


def with_backbone_of(config: EmbedderConfig, initial: Path | None) -> EmbedderConfig:
    """Returns the configuration with the backbone of the initial weights in place of `backbone: initial`.

    Raises:
        ConfigError: There are no initial weights, or they are of no backbone of the trainer.
    """
    if config.backbone != OF_INITIAL:
        return config
    if initial is None:
        raise ConfigError("backbone: initial needs initial weights; name them with --initial, or name a backbone")
    return config.model_copy(update={"backbone": _architecture(graph_of(initial), config.embedding_dim)})


def _architecture(initial: Path, embedding_dim: int) -> str:
    if initial.suffix == ".ckpt":
        return load_encoder(initial)[1].backbone
    shapes = [weights[0].shape for weights in GraphWeights(initial).of("Conv")]
    for name in BUILT_IN:
        layers = build_encoder(name, embedding_dim).modules()
        if [layer.weight.shape for layer in layers if isinstance(layer, nn.Conv2d)] == shapes:
            return name
    raise ConfigError(
        f"{initial} has the architecture of none of {', '.join(BUILT_IN)} with embeddings of {embedding_dim} numbers; "
        "training can distil from it with --teacher"
    )


def _load_graph(encoder: nn.Module, graph: Path) -> None:
    if isinstance(encoder, MobileNetV1):
        load_exported(encoder, graph)
    elif isinstance(encoder, ResidualSmall):
        load_residual(encoder, graph)
    else:
        load_published(encoder, graph)


def load_loss(loss: nn.Module, checkpoint: Path) -> None:
    """Loads what the losses have learned, such as the centres of people; losses that the checkpoint lacks stay new."""
    own = loss.state_dict()
    states = read_mapping(checkpoint)["state_dict"].items()
    known = {name.removeprefix(LOSS): value for name, value in states if name.startswith(LOSS)}
    matching = {name: value for name, value in known.items() if name in own and value.shape == own[name].shape}
    loss.load_state_dict(matching, strict=False)


def _for_channels(weight: Tensor, own: Tensor) -> Tensor:
    """Extends the first convolution of a model of colour pictures for an encoder with landmark channels."""
    has_more_inputs = own.ndim == 4 and weight.ndim == 4 and own.shape[1] > weight.shape[1]
    same = weight.shape[:1] + weight.shape[2:] == own.shape[:1] + own.shape[2:]
    return widened(weight, own.shape[1]) if has_more_inputs and same and weight.shape[1] == COLOURS else weight


def read_mapping(file: Path) -> Mapping[str, Any]:
    """Returns the contents of a checkpoint or a state dict. Raises ConfigError: the file is neither."""
    if not file.is_file():
        raise ConfigError(f"{file}: no such file")
    if file.suffix == ".safetensors":
        from safetensors.torch import load_file

        return cast("Mapping[str, Any]", load_file(file))
    try:
        saved = torch.load(file, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, KeyError, IndexError, ValueError):
        raise ConfigError(f"{file} is neither a checkpoint nor a state dict") from None
    if not isinstance(saved, Mapping):
        raise ConfigError(f"{file} contains a {type(saved).__name__}; a mapping from names to weights is required")
    return cast("Mapping[str, Any]", saved)


def _encoder_weights(saved: Mapping[str, Any]) -> dict[str, Tensor]:
    states = saved["state_dict"].items()
    return {name.removeprefix(ENCODER): value for name, value in states if name.startswith(ENCODER)}


def _library_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Renames the parameters of a library's model to their names in an encoder of the trainer."""
    return {f"backbone.{name.removeprefix('module.')}": value for name, value in state.items()}
