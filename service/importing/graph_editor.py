"""Adds nodes to an ONNX graph."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
from onnx import helper, numpy_helper

PREFIX = "registry_"
BATCH = "pictures"


class GraphEditor:
    """Adds nodes and constants with unique names.

    Attributes:
        model: the edited model.
        producers: the node that computes each value, by the value's name.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.producers = {name: node for node in model.graph.node for name in node.output}
        self._count = 0

    def add(self, operator: str, inputs: Sequence[str], **attributes: Any) -> str:
        """Adds a node with one output and returns the name of the output."""
        output = self._name(operator)
        self.model.graph.node.append(helper.make_node(operator, list(inputs), [output], **attributes))
        return output

    def constant(self, value: Any, kind: type[np.generic] = np.float32) -> str:
        """Adds a constant and returns its name."""
        name = self._name("constant")
        self.model.graph.initializer.append(numpy_helper.from_array(np.asarray(value, kind), name))
        return name

    def integers(self, *values: int) -> str:
        return self.constant(values, np.int64)

    def part(self, value: str, axis: int, start: int, end: int) -> str:
        """Returns the elements from `start` to `end` of a value along an axis."""
        return self.add("Slice", [value, self.integers(start), self.integers(end), self.integers(axis)])

    def replace_outputs(self, name: str, shape: Sequence[str | int]) -> None:
        """Makes one value the graph's only output."""
        del self.model.graph.output[:]
        self.model.graph.output.append(helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, list(shape)))

    def make_batched(self) -> None:
        """Makes the first dimension of the input variable."""
        self.model.graph.input[0].type.tensor_type.shape.dim[0].dim_param = BATCH

    def _name(self, part: str) -> str:
        self._count += 1
        return f"{PREFIX}{part.lower()}_{self._count}"


def shape_of(value: onnx.ValueInfoProto) -> list[int | None]:
    """Returns the dimensions of an input or output; None for a variable one."""
    return [size.dim_value or None for size in value.type.tensor_type.shape.dim]
