"""Packs public PyTorch checkpoints into bundles: FaceNet's embedder, and face detectors of Ultralytics."""

import pickletools
import zipfile
from collections.abc import Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any

import torch

from service.inference.manifest import DetectorManifest, EmbedderManifest
from trainer.configuration import ConfigError
from trainer.embedder.backbones import build_encoder
from trainer.embedder.backbones.libraries import FACENET_DIM, FACENET_OWN_LAYER
from trainer.embedder.config import EmbedderConfig

FACENET_SIZE = 160
MAX_PICKLE_BYTES = 16 * 1024**2
"""The structure of a checkpoint; its weights are in other files of the archive."""
PARALLEL = "module."
ULTRALYTICS = "ultralytics."
GLOBALS = {"GLOBAL", "SHORT_BINUNICODE", "BINUNICODE", "UNICODE"}
"""Operations of a pickle that name a module: `GLOBAL`, and strings for `STACK_GLOBAL`."""


class Kind(StrEnum):
    """The kind of a checkpoint."""

    DETECTOR = "face detector of Ultralytics"
    EMBEDDER = "FaceNet embedder"


def kind_of(file: Path) -> Kind:
    """Recognises a checkpoint by its content, without executing code that it contains.

    Raises:
        ConfigError: The file is no PyTorch checkpoint, or of a family that is not supported.
    """
    if not file.is_file():
        raise ConfigError(f"{file}: no such file")
    if any(name.startswith(ULTRALYTICS) for name in _named_modules(file)):
        return Kind.DETECTOR
    state = _facenet_state(file)
    with torch.device("meta"):  # names alone, without memory for the weights
        names = set(_facenet().state_dict())
    if missing := sorted(names - set(state)):
        raise ConfigError(
            f"{file} is neither a checkpoint of Ultralytics nor weights of InceptionResnetV1 (facenet-pytorch): "
            f"{len(missing)} weights are missing, such as {missing[0].removeprefix('backbone.')}. Other networks: "
            "identity-trainer export --config … --initial …"
        )
    return Kind.EMBEDDER


def import_embedder(file: Path, output: Path, model_id: str, provenance: dict[str, object]) -> EmbedderManifest:
    """Writes the bundle of FaceNet weights, with their own layer and scaling. Raises ConfigError."""
    from trainer.embedder.export import export_encoder

    encoder, state = _facenet(), _facenet_state(file)
    try:
        encoder.load_state_dict({name: state[name] for name in encoder.state_dict()})
    except RuntimeError as error:
        raise ConfigError(f"{file} has weights of other shapes than InceptionResnetV1: {error}") from None
    return export_encoder(encoder.eval(), _facenet_config(), output, model_id, provenance)


def import_detector(
    file: Path, output: Path, model_id: str, min_score: float, provenance: dict[str, object]
) -> DetectorManifest:
    """Writes the bundle of an Ultralytics checkpoint, which executes code of the file. Raises ConfigError."""
    from trainer.detector.export import export
    from trainer.options import CONFIGS

    return export(file, output, model_id, CONFIGS / "detector.yaml", min_score, provenance)


def _facenet() -> torch.nn.Module:
    return build_encoder(FACENET_OWN_LAYER, FACENET_DIM, FACENET_SIZE)


def _facenet_config() -> EmbedderConfig:
    stage = {"name": "none", "epochs": 1, "learning_rate": 1, "losses": {"softmax": 1}}
    return EmbedderConfig.model_validate(
        {
            "backbone": FACENET_OWN_LAYER,
            "embedding_dim": FACENET_DIM,
            "input_size": FACENET_SIZE,
            "stages": [stage],
        }
    )


def _facenet_state(file: Path) -> dict[str, torch.Tensor]:
    """Returns the weights of a state dict with the names that they have in the encoder."""
    try:
        saved: Any = torch.load(file, map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many types for files that are no checkpoints, and for foreign classes
        raise ConfigError(f"{file} is no state dict of PyTorch: {str(error).partition(chr(10))[0]}") from None
    state = saved.get("state_dict", saved) if isinstance(saved, Mapping) else {}
    return {
        f"backbone.{name.removeprefix(PARALLEL)}": value
        for name, value in state.items()
        if isinstance(value, torch.Tensor)
    }


def _named_modules(file: Path) -> list[str]:
    """Returns the names of modules and other short strings in the pickle of a checkpoint, which it does not load."""
    if not zipfile.is_zipfile(file):
        return []
    with zipfile.ZipFile(file) as archive:
        pickles = [item for item in archive.infolist() if item.filename.endswith("/data.pkl")]
        if not pickles:
            return []
        if pickles[0].file_size > MAX_PICKLE_BYTES:
            raise ConfigError(f"{file}: {pickles[0].filename} has more than {MAX_PICKLE_BYTES:,} bytes")
        operations = pickletools.genops(archive.read(pickles[0]))
        return [str(argument) for operation, argument, _ in operations if operation.name in GLOBALS]
