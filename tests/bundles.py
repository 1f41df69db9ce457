"""Bundles of models that tests need beside the shipped ones."""

import shutil
from pathlib import Path

import numpy as np
import onnx

from service.inference.bundle import file_sha256, read_embedder, write_manifest
from service.runtime.settings import BUNDLES

SECOND = BUNDLES / "embedder-fairface"


def turned(folder: Path, dim: int, model_id: str) -> Path:
    """The second shipped embedder with its embeddings turned, into a space of as many dimensions or more.

    A turn keeps every cosine, and so the calibration; with embeddings that were not turned they have nothing in common.
    """
    shutil.copytree(SECOND, folder)
    manifest = read_embedder(folder)
    basis, _ = np.linalg.qr(np.random.default_rng(7).normal(size=(dim, manifest.embedding_dim)))
    graph_file = folder / manifest.graph
    model = onnx.load(graph_file)
    output = model.graph.output[0]
    last = next(node for node in model.graph.node if output.name in node.output)
    last.output[list(last.output).index(output.name)] = "unturned"
    model.graph.initializer.append(onnx.numpy_helper.from_array(basis.T.astype(np.float32), "turn"))
    model.graph.node.append(onnx.helper.make_node("MatMul", ["unturned", "turn"], [output.name]))
    output.type.tensor_type.shape.dim[1].dim_value = dim
    onnx.checker.check_model(model)
    onnx.save(model, graph_file)
    files = manifest.files | {manifest.graph: file_sha256(graph_file)}
    write_manifest(folder, manifest.model_copy(update={"model_id": model_id, "embedding_dim": dim, "files": files}))
    return folder
