"""Rewrites an embedder's graph for batches of any size."""

import numpy as np
import onnx
from onnx import numpy_helper

from service.importing.graph_editor import BATCH, GraphEditor


def make_batched(model: onnx.ModelProto) -> None:
    """Makes the number of pictures variable: in the input, in the output, and in reshapings for one picture."""
    editor = GraphEditor(model)
    editor.make_batched()
    dim = model.graph.output[0].type.tensor_type.shape.dim[1].dim_value
    editor.replace_outputs(model.graph.output[0].name, [BATCH, dim])
    constants = {item.name: item for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = node.attribute[0].t
    activations = _depend_on(model, model.graph.input[0].name)
    for node in model.graph.node:
        if node.op_type == "Reshape" and node.input[0] in activations and node.input[1] in constants:
            shape = numpy_helper.to_array(constants[node.input[1]])
            if len(shape) and shape[0] == 1:
                # Another node may use the same constant, so the node gets its own: zero keeps the number of pictures.
                node.input[1] = editor.constant(np.concatenate([[0], shape[1:]]), np.int64)
    del model.graph.value_info[:]


def _depend_on(model: onnx.ModelProto, name: str) -> set[str]:
    """Returns the values that depend on an input; the nodes of a graph are in topological order."""
    values = {name}
    for node in model.graph.node:
        if values & set(node.input):
            values |= set(node.output)
    return values
