"""Computes the parts of a graph that depend on constants only, such as weights that are stored in 8 bits.

OpenVINO does not read weights that are quantised in blocks. Afterwards they are float32 constants of the same values.
"""

from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

FOLDED = ("DequantizeLinear", "Reshape")


def fold(model: onnx.ModelProto) -> None:
    """Replaces dequantisations and reshapings of constants by their results, and drops constants that nobody uses."""
    constants = {item.name: item for item in model.graph.initializer}
    kept, changed = [], False
    for node in model.graph.node:
        inputs = [name for name in node.input if name]
        if node.op_type not in FOLDED or not all(name in constants for name in inputs):
            kept.append(node)
            continue
        value = _evaluate(node, [numpy_helper.to_array(constants[name]) for name in inputs], model)
        constants[node.output[0]] = numpy_helper.from_array(value, node.output[0])
        changed = True
    if not changed:
        return
    used = {name for node in kept for name in node.input}
    del model.graph.node[:], model.graph.initializer[:]
    model.graph.node.extend(kept)
    model.graph.initializer.extend(item for name, item in constants.items() if name in used)
    inputs_left = [item for item in model.graph.input if item.name not in constants]
    del model.graph.input[:], model.graph.value_info[:]
    model.graph.input.extend(inputs_left)


def _evaluate(node: onnx.NodeProto, values: list[np.ndarray], model: onnx.ModelProto) -> np.ndarray:
    names: list[str] = [name for name in node.input if name]
    kinds = [helper.np_dtype_to_tensor_dtype(value.dtype) for value in values]
    inputs = [
        helper.make_tensor_value_info(name, kind, value.shape)
        for name, kind, value in zip(names, kinds, values, strict=True)
    ]
    result = helper.make_tensor_value_info(node.output[0], onnx.TensorProto.FLOAT, None)
    alone = helper.make_model(helper.make_graph([node], "constant", inputs, [result]), opset_imports=model.opset_import)
    results: Any = ReferenceEvaluator(alone).run(None, dict(zip(names, values, strict=True)))
    return np.asarray(results[0])
