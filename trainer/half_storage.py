"""Halves the size of an ONNX model: weights are stored in float16 and cast to float32 when the graph is loaded."""

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

SUFFIX = "_half"
"""Suffix of the stored tensor's name. The output of the cast has the original name of the weight."""
MIN_ELEMENTS = 1024
"""Smaller tensors (biases, normalisation) stay in float32; they take little space."""


def store_weights_as_half(model: onnx.ModelProto) -> None:
    """Replaces float32 weights by float16 weights and casts, in place.

    Runtimes fold the casts when they load the graph, so arithmetic stays in float32. A weight with values beyond the
    range of float16 (65,504) stays in float32.
    """
    graph = model.graph
    casts = []
    for initializer in graph.initializer:
        if initializer.data_type != TensorProto.FLOAT:
            continue
        values = numpy_helper.to_array(initializer)
        if values.size < MIN_ELEMENTS or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        name = initializer.name
        initializer.CopyFrom(numpy_helper.from_array(values.astype(np.float16), f"{name}{SUFFIX}"))
        casts.append(helper.make_node("Cast", [f"{name}{SUFFIX}"], [name], name=f"{name}_cast", to=TensorProto.FLOAT))
    for node in reversed(casts):
        graph.node.insert(0, node)
