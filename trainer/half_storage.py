"""Halves a bundle on disk: weights are stored in float16 and cast to float32 when the graph is loaded."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SUFFIX = "_half"
"""Of the stored tensor's name; the cast's result has the name that the weight had."""
SMALLEST = 1024
"""Elements; smaller tensors (biases, normalisation) stay float32: they cost nothing."""


def store_weights_as_half(path: Path) -> None:
    """Rewrite an ONNX file in place. Runtimes fold the casts while loading, so that arithmetic stays in float32.

    A weight beyond float16's range (65,504) stays as it is.
    """
    model = onnx.load(path)
    graph = model.graph
    casts = []
    for initializer in graph.initializer:
        if initializer.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(initializer)
        if values.size < SMALLEST or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name = initializer.name
        initializer.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}{SUFFIX}"))
        casts.append(helper.make_node("Cast", [f"{name}{SUFFIX}"], [name], name=f"{name}_cast", to=TensorProto.FLOAT))
    for node in reversed(casts):
        graph.node.insert(0, node)
    onnx.checker.check_model(model)
    onnx.save(model, path)
