"""Tests that exported ONNX graphs contain no data about the exporting machine."""

from pathlib import Path

import numpy as np
import onnx
import torch
from torch import nn

from service.inference.graph import RuntimeOptions, open_graph
from tests.bundles import machine_metadata
from trainer.graph_metadata import strip_metadata
from trainer.onnx_graph import write_graph


class Small(nn.Module):
    """A convolution whose weights have enough elements to be stored in half precision."""

    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 48, 3)

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.convolution(pixels).relu().mean(dim=(2, 3))


def test_exported_graph_has_no_metadata(tmp_path: Path) -> None:
    model, path = Small().eval(), tmp_path / "model.onnx"
    write_graph(model, torch.rand(2, 3, 16, 16), path, "features")
    assert machine_metadata(path) == set()
    weights = {tensor.name for tensor in onnx.load(path).graph.initializer}
    assert {"convolution.weight_half", "convolution.bias"} <= weights


def test_strip_metadata_keeps_names_and_outputs(tmp_path: Path) -> None:
    path, pixels = tmp_path / "model.onnx", torch.rand(2, 3, 16, 16)
    torch.onnx.export(Small().eval(), (pixels,), path, dynamo=True, external_data=False, verbose=False)
    assert {"producer_name", "metadata_props", "value"} <= machine_metadata(path)
    options = RuntimeOptions("onnxruntime", threads=1)
    expected = open_graph(path, 16, options).run(pixels.numpy())
    model = onnx.load(path)
    names = [(node.name, *node.input, *node.output) for node in model.graph.node]
    strip_metadata(model)
    onnx.save(model, path)
    assert machine_metadata(path) == set()
    assert [(node.name, *node.input, *node.output) for node in model.graph.node] == names
    np.testing.assert_array_equal(open_graph(path, 16, options).run(pixels.numpy()), expected)


def test_strip_metadata_reaches_functions_and_subgraphs() -> None:
    def graph(name: str) -> onnx.GraphProto:
        node = onnx.helper.make_node("Identity", ["x"], ["y"], name="identity", doc_string="comment")
        output = onnx.helper.make_tensor_value_info("y", onnx.TensorProto.FLOAT, [1], doc_string="comment")
        return onnx.helper.make_graph([node], name, [], [output], doc_string="comment")

    branch = onnx.helper.make_node("If", ["condition"], ["z"], then_branch=graph("then"), else_branch=graph("else"))
    opset = onnx.helper.make_opsetid("", 20)
    function = onnx.helper.make_function("local", "twice", ["x"], ["y"], list(graph("body").node), [opset])
    function.doc_string = "comment"
    model = onnx.helper.make_model(onnx.helper.make_graph([branch], "main", [], []), functions=[function])
    onnx.helper.set_model_props(model, {"author": "somebody"})
    strip_metadata(model)
    assert b"comment" not in model.SerializeToString()
    assert b"somebody" not in model.SerializeToString()
