"""Creates model bundles for tests from the shipped ones, and inspects their graphs."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from service.inference.bundle import file_sha256, read_embedder, write_manifest
from service.runtime.settings import BUNDLES

SECOND_EMBEDDER = BUNDLES / "embedder-fairface"
LOCAL_PATH = re.compile(r"\.py\b|site-packages|[A-Za-z]:\\\\|/(home|root|Users|usr|opt|tmp|var|work)/")


def write_rotated_embedder(folder: Path, dim: int, model_id: str) -> Path:
    """Writes a copy of the second shipped embedder whose embeddings are rotated in a space of `dim` dimensions.

    A rotation preserves cosines and with them the calibration, but the rotated embeddings are not comparable with the
    original ones.

    Args:
        folder: folder of the new bundle; must not exist.
        dim: at least the dimension of the original embeddings.
    """
    shutil.copytree(SECOND_EMBEDDER, folder)
    manifest = read_embedder(folder)
    basis, _ = np.linalg.qr(np.random.default_rng(7).normal(size=(dim, manifest.embedding_dim)))
    graph_file = folder / manifest.graph
    model = onnx.load(graph_file)
    output = model.graph.output[0]
    last = next(node for node in model.graph.node if output.name in node.output)
    last.output[list(last.output).index(output.name)] = "original"
    model.graph.initializer.append(onnx.numpy_helper.from_array(basis.T.astype(np.float32), "rotation"))
    model.graph.node.append(onnx.helper.make_node("MatMul", ["original", "rotation"], [output.name]))
    output.type.tensor_type.shape.dim[1].dim_value = dim
    onnx.checker.check_model(model)
    onnx.save(model, graph_file)
    files = manifest.files | {manifest.graph: file_sha256(graph_file)}
    changes = {"model_id": model_id, "embedding_dim": dim, "files": files, "supersedes": []}
    write_manifest(folder, manifest.model_copy(update=changes))
    return folder


def machine_metadata(graph_file: Path) -> set[str]:
    """Returns the names of fields that describe the exporting machine: producer, comments, metadata and paths."""
    model = onnx.load(graph_file)
    producer = {field for field in ("producer_name", "producer_version") if getattr(model, field)}
    return producer | set(_descriptive_fields(model))


def _descriptive_fields(message: Any) -> Iterator[str]:
    """Yields the names of fields with comments, metadata or local paths in a protobuf message, at any depth."""
    for descriptor, value in message.ListFields():
        if descriptor.name in {"doc_string", "metadata_props"}:
            yield descriptor.name
        items = [value] if isinstance(value, str | bytes) or hasattr(value, "ListFields") else value
        if descriptor.message_type is not None:
            for item in items:
                yield from _descriptive_fields(item)
        elif descriptor.type == descriptor.TYPE_STRING and any(LOCAL_PATH.search(item) for item in items):
            yield descriptor.name
