"""Recognises the kind of a public face model by the structure of its graph. Names of files and nodes do not matter."""

from collections import Counter
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
import onnx
from onnx import numpy_helper

from service.errors import StartupError
from service.importing.graph_editor import shape_of

STRIDES = (8, 16, 32)
"""Pixels between the cells of the three levels of a detector."""
MIN_DIM, MAX_DIM = 64, 4000


class DetectorKind(StrEnum):
    """Families of detectors whose outputs the registry decodes."""

    YUNET = "yunet"
    SCRFD = "scrfd"


@dataclass(frozen=True)
class ImportedDetector:
    """A detector. `outputs`: names of the outputs, three levels of each: scores, boxes, landmarks if there are any."""

    kind: DetectorKind
    outputs: list[list[str]]


@dataclass(frozen=True)
class ImportedEmbedder:
    """An embedder.

    Attributes:
        scales_itself: the graph expects pixel values of 0 to 255.
    """

    input_size: int
    dim: int
    scales_itself: bool


def recognise(model: onnx.ModelProto, name: str) -> ImportedDetector | ImportedEmbedder | None:
    """Returns the kind of a model; None: it is neither a face detector nor an embedder that can be imported.

    Args:
        name: of the file, for errors.

    Raises:
        StartupError: the graph's input is not a batch of colour pictures.
    """
    initialised = {item.name for item in model.graph.initializer}
    inputs = [item for item in model.graph.input if item.name not in initialised]
    if len(inputs) != 1 or len(shape_of(inputs[0])) != 4 or shape_of(inputs[0])[1] != 3:
        raise StartupError(f"{name}: the graph needs one input of (pictures, 3, height, width)")
    return _detector(model) or _embedder(model, shape_of(inputs[0]), inputs[0].name)


def _detector(model: onnx.ModelProto) -> ImportedDetector | None:
    """Recognises detectors by the last dimensions of their outputs, in the order of their levels."""
    by_size: dict[int, list[str]] = {}
    for output in model.graph.output:
        size = shape_of(output)[-1] if shape_of(output) else None
        by_size.setdefault(size or 0, []).append(output.name)
    counts = Counter({size: len(names) for size, names in by_size.items()})
    levels = len(STRIDES)
    if counts == Counter({1: 2 * levels, 4: levels, 10: levels}):
        scores = [by_size[1][:levels], by_size[1][levels:]]
        return ImportedDetector(DetectorKind.YUNET, [*scores, by_size[4], by_size[10]])
    if counts in (Counter({1: levels, 4: levels, 10: levels}), Counter({1: levels, 4: levels})):
        return ImportedDetector(DetectorKind.SCRFD, [by_size[size] for size in (1, 4, 10) if size in by_size])
    return None


def _embedder(model: onnx.ModelProto, shape: list[int | None], input_name: str) -> ImportedEmbedder | None:
    """Recognises graphs with one vector of many numbers for a square picture."""
    height, width = shape[2:]
    if len(model.graph.output) != 1 or height is None or height != width:
        return None
    output = shape_of(model.graph.output[0])
    if len(output) != 2 or output[1] is None or not MIN_DIM <= output[1] <= MAX_DIM:
        return None
    return ImportedEmbedder(height, output[1], _scales_itself(model, input_name))


def _scales_itself(model: onnx.ModelProto, input_name: str) -> bool:
    """Returns True if the first operations subtract a mean from the pixels and scale them."""
    constants = {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == "Constant" and node.attribute[0].name == "value":
            constants[node.output[0]] = numpy_helper.to_array(node.attribute[0].t)
    first = [node for node in model.graph.node if input_name in node.input]
    if len(first) != 1 or first[0].op_type not in ("Sub", "Mul", "Div"):
        return False
    others = [constants[name] for name in first[0].input if name in constants]
    return len(others) == 1 and bool(np.isfinite(others[0]).all()) and others[0].size in (1, 3)
