"""From a checkpoint to an embedder bundle."""

import datetime
import hashlib
import json
from pathlib import Path

import numpy as np
import torch

from service.inference.bundle import EmbedderManifest, PixelScaling, Provenance, file_sha256, write_manifest
from service.inference.graph import RuntimeOptions, open_graph
from trainer.embedder.augmentation import CROP
from trainer.embedder.training import load_encoder
from trainer.half_storage import store_weights_as_half

OPSET = 20
PARITY = 0.9999
"""Lowest cosine between the eager model and the exported graph. Storing weights in half costs about 1e-6."""


def export(checkpoint: Path, output: Path, model_id: str, provenance: dict[str, object]) -> EmbedderManifest:
    """Write `model.onnx` and its manifest, without a calibration yet, into `output`.

    Raises:
        ValueError: the exported graph does not give the model's embeddings.
    """
    encoder, config = load_encoder(checkpoint)
    output.mkdir(parents=True, exist_ok=True)
    graph = output / "model.onnx"
    example = torch.rand(2, 3, CROP, CROP) * 2 - 1
    torch.onnx.export(
        encoder,
        (example,),
        graph,
        input_names=["crops"],
        output_names=["embeddings"],
        dynamic_shapes={"x": {0: torch.export.Dim("pictures", min=1, max=4096)}},
        opset_version=OPSET,
        dynamo=True,
        external_data=False,
        verbose=False,
    )
    store_weights_as_half(graph)
    _check_parity(encoder, graph)
    manifest = EmbedderManifest(
        kind="embedder",
        format_version=1,
        model_id=model_id,
        files={graph.name: file_sha256(graph)},
        scaling=PixelScaling(mean=127.5, std=128.0),
        input_size=CROP,
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


def _check_parity(encoder: torch.nn.Module, graph: Path) -> None:
    pixels = (torch.rand(16, 3, CROP, CROP, generator=torch.Generator().manual_seed(0)) * 2 - 1).float()
    with torch.inference_mode():
        eager = torch.nn.functional.normalize(encoder(pixels)).numpy()
    for backend in ("openvino", "onnxruntime"):
        exported = open_graph(graph, CROP, RuntimeOptions(backend=backend)).run(pixels.numpy())
        exported /= np.linalg.norm(exported, axis=1, keepdims=True)
        lowest = float((eager * exported).sum(axis=1).min())
        if lowest < PARITY:
            raise ValueError(
                f"{backend}: the exported graph's embeddings differ from the model's (cosine {lowest:.6f})"
            )
