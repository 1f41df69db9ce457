"""Exports a checkpoint as an embedder bundle."""

import datetime
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from service.inference.bundle import file_sha256, write_manifest
from service.inference.graph import RuntimeOptions, open_graph
from service.inference.manifest import EmbedderManifest, HeldOut, PixelScaling
from service.inference.provenance import Provenance
from trainer.choices import Format
from trainer.configuration import ConfigError
from trainer.embedder import training_people
from trainer.embedder.augmentation import encoder_input
from trainer.embedder.checkpoints import COLOURS, load_encoder
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.formats import Floats, as_table, noise, onnx_written, require_parity, write
from trainer.embedder.training_people import TrainingPeople
from trainer.onnx_graph import write_graph

Pictures = npt.NDArray[np.uint8]


def _crops(pictures: Pictures | None, landmarks: Floats | None, config: EmbedderConfig) -> Floats:
    """Returns (n, channels, size, size) inputs of the encoder for the parity check: of real faces, or noise."""
    if pictures is None:
        return noise(config.input_size, COLOURS + config.more_channels)
    points = None if landmarks is None else torch.from_numpy(landmarks)
    return encoder_input(torch.from_numpy(np.array(pictures)), points, config).numpy()


def export(checkpoint: Path, output: Path, model_id: str, provenance: dict[str, object]) -> EmbedderManifest:
    """Writes the bundle of a checkpoint without further formats, as `export_encoder`. Raises ConfigError."""
    people = training_people.of_run(checkpoint)
    return export_encoder(*load_encoder(checkpoint), output, model_id, provenance, people=people)


def export_encoder(
    encoder: nn.Module,
    config: EmbedderConfig,
    output: Path,
    model_id: str,
    provenance: dict[str, object],
    also: Sequence[Format] = (),
    pictures: Pictures | None = None,
    landmarks: Floats | None = None,
    people: TrainingPeople | None = None,
) -> EmbedderManifest:
    """Writes `model.onnx` and its manifest, without a calibration, to `output`, which is created if necessary.

    Args:
        provenance: values of `Provenance` other than `created` and `config_sha256`.
        also: further formats. `formats.md` lists the deviation from the model, the size and the time of each.
        pictures: (n, 160, 160, 3) aligned crops of real faces, on which each format is compared with the model;
            required for `also`.
        landmarks: (n, 6, 3) landmarks of these crops, for a model with landmark channels.
        people: Who trained the encoder; None: it is unknown, and the bundle records no split.

    Raises:
        ConfigError: `also` is not empty and there are no pictures.
        ValueError: the embeddings of an exported file differ from the model's.
    """
    if also and pictures is None:
        raise ConfigError("--also requires aligned crops of real faces for its checks; set --crops")
    output.mkdir(parents=True, exist_ok=True)
    graph = output / "model.onnx"
    size = config.input_size
    example = torch.rand(2, COLOURS + config.more_channels, size, size) * 2 - 1
    write_graph(encoder, example, graph, "embeddings")
    crops = _crops(pictures, landmarks, config)
    for backend in ("openvino", "onnxruntime"):
        require_parity(
            encoder, backend, open_graph(graph, size, RuntimeOptions(backend=backend), crops.shape[1]).run, crops
        )
    if also:
        written = [onnx_written(encoder, graph, crops), *(write(encoder, kind, output, crops) for kind in also)]
        (output / "formats.md").write_text(as_table(written) + "\n")
    files = [graph] if people is None else [graph, training_people.write(people, output)]
    split = None
    if people is not None:
        split = HeldOut(validation=config.split.validation, calibration=config.split.calibration)
    manifest = EmbedderManifest(
        kind="embedder",
        format_version=1,
        model_id=model_id,
        files={file.name: file_sha256(file) for file in files},
        scaling=PixelScaling(mean=127.5, std=128.0),
        input_size=size,
        filters=config.filters,
        landmark_channels=None if config.landmark_channels is None else config.landmark_channels.served,
        alignment="five-point-112",
        embedding_dim=config.embedding_dim,
        metric="cosine",
        mirror_average=config.mirror_average,
        split=split,
        provenance=Provenance(
            created=datetime.datetime.now(datetime.UTC).date().isoformat(),
            config_sha256=hashlib.sha256(
                json.dumps(config.model_dump(mode="json"), sort_keys=True).encode()
            ).hexdigest(),
            **provenance,
        ),
    )
    write_manifest(output, manifest)
    return manifest
