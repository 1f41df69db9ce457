"""From a checkpoint to an embedder bundle."""

import datetime
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch

from service.inference.bundle import EmbedderManifest, PixelScaling, Provenance, file_sha256, write_manifest
from service.inference.graph import RuntimeOptions, open_graph
from trainer.embedder.checkpoints import load_encoder
from trainer.embedder.formats import Format, require_parity, write
from trainer.onnx_graph import write_graph


def export(
    checkpoint: Path, output: Path, model_id: str, provenance: dict[str, object], also: Sequence[Format] = ()
) -> EmbedderManifest:
    """Write `model.onnx` and its manifest, without a calibration yet, into `output`; `also` in other formats.

    Raises:
        ValueError: the exported graph does not give the model's embeddings.
    """
    encoder, config = load_encoder(checkpoint)
    output.mkdir(parents=True, exist_ok=True)
    graph = output / "model.onnx"
    size = config.input_size
    example = torch.rand(2, 3, size, size) * 2 - 1
    write_graph(encoder, example, graph, "embeddings")
    for backend in ("openvino", "onnxruntime"):
        require_parity(encoder, backend, open_graph(graph, size, RuntimeOptions(backend=backend)).run, size=size)
    for kind in also:
        write(encoder, kind, output, size)
    manifest = EmbedderManifest(
        kind="embedder",
        format_version=1,
        model_id=model_id,
        files={graph.name: file_sha256(graph)},
        scaling=PixelScaling(mean=127.5, std=128.0),
        input_size=size,
        filters=config.filters,
        alignment="five-point-112",
        embedding_dim=config.embedding_dim,
        metric="cosine",
        mirror_average=config.mirror_average,
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
