"""Appends the decoding of YuNet and SCRFD to their graphs, so that all detectors of the registry have one output.

The output is (pictures, 20, anchors): centre, size and score of a box, and x, y and confidence of five landmarks, in
pixels of the input; (pictures, 5, anchors) without landmarks. Neither family predicts confidences of landmarks; they
are 1.

YuNet: Wu, Peng and Yu, "YuNet: a tiny millisecond-level face detector", Machine Intelligence Research 20, 2023.
SCRFD: Guo et al., "Sample and computation redistribution for efficient face detection", ICLR 2022.
"""

import numpy as np
import onnx

from service.errors import StartupError
from service.importing.graph_editor import BATCH, GraphEditor
from service.importing.graph_kinds import STRIDES, DetectorKind, ImportedDetector

LANDMARKS = 5
MIN_OPSET = 11
"""Range and Slice with inputs exist since this version of the ONNX operators."""
SCRFD_ANCHORS = 2
"""Boxes per cell of a level."""


def decode_in_graph(model: onnx.ModelProto, detector: ImportedDetector, name: str) -> int:
    """Rewrites the graph in place. Returns the number of landmarks, 5 or 0.

    Raises:
        StartupError: the graph has another structure than the published ones of this family.
    """
    if (version := model.opset_import[0].version) < MIN_OPSET:
        raise StartupError(f"{name} uses version {version} of the ONNX operators; at least {MIN_OPSET} is needed")
    editor = GraphEditor(model)
    editor.make_batched()
    has_landmarks = len(detector.outputs) == (4 if detector.kind is DetectorKind.YUNET else 3)
    levels = []
    for level, stride in enumerate(STRIDES):
        outputs = [names[level] for names in detector.outputs]
        if detector.kind is DetectorKind.YUNET:
            levels.append(_yunet_level(editor, outputs, stride))
        else:
            levels.append(_scrfd_level(editor, outputs, stride, name))
    joined = editor.add("Concat", levels, axis=1)
    result = editor.add("Transpose", [joined], perm=[0, 2, 1])
    landmarks = LANDMARKS if has_landmarks else 0
    editor.replace_outputs(result, [BATCH, 5 + 3 * landmarks, "anchors"])
    return landmarks


def _yunet_level(editor: GraphEditor, outputs: list[str], stride: int) -> str:
    """A box is the cell plus an offset in strides, with the exponential of its size; the scores are multiplied."""
    classes, objects, boxes, points = outputs
    cells = _cells(editor, stride, 1)
    step = editor.constant(stride)
    centres = editor.add("Mul", [editor.add("Add", [editor.part(boxes, 2, 0, 2), cells]), step])
    sides = editor.add("Mul", [editor.add("Exp", [editor.part(boxes, 2, 2, 4)]), step])
    bounds = editor.constant(0), editor.constant(1)
    limited = [editor.add("Clip", [scores, *bounds]) for scores in (classes, objects)]
    scores = editor.add("Sqrt", [editor.add("Mul", limited)])
    landmarks = [
        editor.add("Mul", [editor.add("Add", [editor.part(points, 2, 2 * row, 2 * row + 2), cells]), step])
        for row in range(LANDMARKS)
    ]
    return _rows(editor, centres, sides, scores, landmarks)


def _scrfd_level(editor: GraphEditor, outputs: list[str], stride: int, name: str) -> str:
    """A box is given by the distances of the cell's corner to its four sides, in strides."""
    sizes = (1, 4, 2 * LANDMARKS)
    scores, distances, *points = (
        _with_batch(editor, output, size, name) for output, size in zip(outputs, sizes, strict=False)
    )
    step = editor.constant(stride)
    cells = editor.add("Mul", [_cells(editor, stride, SCRFD_ANCHORS), step])
    before = editor.add("Sub", [cells, editor.add("Mul", [editor.part(distances, 2, 0, 2), step])])
    after = editor.add("Add", [cells, editor.add("Mul", [editor.part(distances, 2, 2, 4), step])])
    centres = editor.add("Mul", [editor.add("Add", [before, after]), editor.constant(0.5)])
    sides = editor.add("Sub", [after, before])
    landmarks = [
        editor.add("Add", [editor.add("Mul", [editor.part(points[0], 2, 2 * row, 2 * row + 2), step]), cells])
        for row in range(LANDMARKS if points else 0)
    ]
    return _rows(editor, centres, sides, scores, landmarks)


def _with_batch(editor: GraphEditor, output: str, size: int, name: str) -> str:
    """Returns (pictures, cells, size) of an output whose published form puts all pictures into the first dimension.

    The published graphs end with a transposition of (pictures, channels, height, width), a reshaping and, for scores, a
    sigmoid.
    """
    chain = [editor.producers[output]]
    while chain[-1].op_type != "Transpose" and len(chain) < 4 and chain[-1].input[0] in editor.producers:
        chain.append(editor.producers[chain[-1].input[0]])
    kinds = [node.op_type for node in chain]
    if kinds not in (["Reshape", "Transpose"], ["Sigmoid", "Reshape", "Transpose"]):
        raise StartupError(f"{name} ends with {', '.join(reversed(kinds))}; SCRFD's published graphs end otherwise")
    planes = editor.add("Transpose", [chain[-1].input[0]], perm=[0, 2, 3, 1])
    result = editor.add("Reshape", [planes, editor.integers(0, -1, size)])
    return editor.add("Sigmoid", [result]) if kinds[0] == "Sigmoid" else result


def _rows(editor: GraphEditor, centres: str, sides: str, scores: str, landmarks: list[str]) -> str:
    """Returns (pictures, cells, 5 + 3 * landmarks)."""
    confidence = editor.add("Add", [editor.add("Mul", [scores, editor.constant(0)]), editor.constant(1)])
    points = [value for point in landmarks for value in (point, confidence)]
    return editor.add("Concat", [centres, sides, scores, *points], axis=2)


def _cells(editor: GraphEditor, stride: int, anchors: int) -> str:
    """Returns (1, cells, 2): column and row of each cell of a level, `anchors` times, row by row."""
    shape = editor.add("Shape", [editor.model.graph.input[0].name])
    step = editor.integers(stride)
    height, width = (editor.add("Div", [editor.part(shape, 0, axis, axis + 1), step]) for axis in (2, 3))
    columns, rows = (_numbers(editor, length) for length in (width, height))
    size = editor.add("Concat", [height, width, editor.integers(anchors)], axis=0)
    planes = [
        editor.add("Expand", [editor.add("Reshape", [values, editor.integers(*form)]), size])
        for values, form in ((columns, (1, -1, 1)), (rows, (-1, 1, 1)))
    ]
    flat = [editor.add("Reshape", [plane, editor.integers(1, -1, 1)]) for plane in planes]
    return editor.add("Concat", flat, axis=2)


def _numbers(editor: GraphEditor, length: str) -> str:
    """Returns the numbers from 0 to `length` - 1."""
    scalar = editor.add("Reshape", [length, editor.constant(np.zeros(0), np.int64)])
    numbers = editor.add("Range", [editor.constant(0, np.int64), scalar, editor.constant(1, np.int64)])
    return editor.add("Cast", [numbers], to=onnx.TensorProto.FLOAT)
