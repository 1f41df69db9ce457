"""Reads the weights of an ONNX graph, operator by operator, and compares a network with the graph."""

from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import onnx
import torch
from torch import Tensor, nn

from trainer.configuration import ConfigError

MIN_COSINE = 0.999
SIDE = 112
Array = npt.NDArray[np.generic]


class GraphWeights:
    """The constant tensors of an ONNX file, as floats.

    Weights in half precision, block-quantised 8-bit weights and reshaped weights count as constants.

    Raises:
        ConfigError: The file is not an ONNX file.
    """

    def __init__(self, file: Path) -> None:
        try:
            self._graph = onnx.load(str(file)).graph
        except Exception as error:  # protobuf's DecodeError has no public name
            raise ConfigError(f"{file} is not an ONNX file: {error}") from None
        self._tensors: dict[str, Array] = {
            tensor.name: onnx.numpy_helper.to_array(tensor) for tensor in self._graph.initializer
        }
        for node in self._graph.node:
            if node.input and node.input[0] in self._tensors:
                self._evaluate(node)

    def of(self, operator: str) -> list[list[Tensor]]:
        """Returns the constant inputs of each node with this operator, in the order of the graph."""
        nodes = (node for node in self._graph.node if node.op_type == operator)
        return [
            [torch.from_numpy(self._tensors[name].astype(np.float32)) for name in node.input if name in self._tensors]
            for node in nodes
        ]

    def _evaluate(self, node: onnx.NodeProto) -> None:
        inputs = [self._tensors[name] for name in node.input]
        if node.op_type == "Cast":
            self._tensors[node.output[0]] = inputs[0].astype(np.float32)
        elif node.op_type == "Reshape":
            self._tensors[node.output[0]] = inputs[0].reshape(cast("npt.NDArray[np.int64]", inputs[1]))
        elif node.op_type == "DequantizeLinear":
            self._tensors[node.output[0]] = _dequantised(node, inputs)


def _dequantised(node: onnx.NodeProto, inputs: list[Array]) -> npt.NDArray[np.float32]:
    """Computes DequantizeLinear of ONNX opset 21: one scale and zero point for each block along an axis."""
    attributes = {attribute.name: attribute.i for attribute in node.attribute}
    axis, block = attributes["axis"], attributes["block_size"]
    values, *factors = (array.astype(np.float32) for array in inputs)
    scale, zero = (np.repeat(factor, block, axis).take(range(values.shape[axis]), axis) for factor in factors)
    return (values - zero) * scale


def set_folded(
    layer: nn.Conv2d | nn.Linear, norm: nn.BatchNorm2d | nn.BatchNorm1d, weight: Tensor, bias: Tensor
) -> None:
    """Sets a layer whose batch norm is folded into it: the norm becomes the identity plus the bias.

    Raises:
        ValueError: The weights have another shape than those of the layer.
    """
    if layer.weight.shape != weight.shape:
        raise ValueError(f"a weight has the shape {tuple(weight.shape)} instead of {tuple(layer.weight.shape)}")
    assert norm.running_mean is not None
    assert norm.running_var is not None
    with torch.no_grad():
        layer.weight.copy_(weight)
        norm.weight.fill_(1)
        norm.bias.copy_(bias)
        norm.running_mean.zero_()
        norm.running_var.fill_(1 - norm.eps)


def require_same_output(network: nn.Module, graph: Path, scales_pixels: bool = False) -> None:
    """Compares the outputs, since a graph with other activations or strides has weights of the same shapes.

    Args:
        scales_pixels: The graph expects pixels from 0 to 255; the network always expects `(x - 127.5) / 128`.

    Raises:
        ValueError: The outputs differ.
    """
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3  # published files have unused constants, of which ONNX Runtime warns
    session = onnxruntime.InferenceSession(str(graph), options, providers=["CPUExecutionProvider"])
    pixels = torch.rand(1, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0)) * 2 - 1
    fed = (pixels * 128 + 127.5 if scales_pixels else pixels).numpy()
    expected = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: fed})[0])
    training = network.training
    with torch.inference_mode():
        cosine = float(nn.functional.cosine_similarity(network.eval()(pixels), expected))
    network.train(training)
    if cosine < MIN_COSINE:
        raise ValueError(
            f"{graph} has weights of the backbone's shapes but computes something else (cosine {cosine:.3f})"
        )
