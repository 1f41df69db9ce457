"""Removal of channels of a MobileNet, and the weights of published SFace."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.trainer.slim_networks import WIDE, network, slim_of
from trainer.configuration import ConfigError
from trainer.embedder.backbones.mobilenet_v1 import PUBLISHED, MobileNetV1, Widths
from trainer.embedder.backbones.sface import load_exported, load_sface
from trainer.embedder.map_distillation import MapDistillation
from trainer.embedder.slimming import Moments, slim
from trainer.onnx_graph import write_graph


def twins(original: MobileNetV1) -> MobileNetV1:
    """Returns a network of twice the width that computes the same: every channel exists twice."""
    widths = Widths(tuple(2 * width for width in WIDE.convolutions), None)
    result = MobileNetV1(16, widths=widths).eval()
    state = {}
    for name, value in original.state_dict().items():
        wide = result.state_dict()[name].shape
        for axis, (before, after) in enumerate(zip(value.shape, wide, strict=True)):
            if after == 2 * before:
                value = torch.cat([value, value], axis) / (2 if axis == 1 else 1)
        if name == "head.1.weight":
            by_position = original.state_dict()[name].view(16, -1, 49)
            value = (torch.cat([by_position, by_position], 1) / 2).flatten(1)
        state[name] = value
    result.load_state_dict(state)
    return result


def test_channels_that_exist_twice_are_removed_without_a_change() -> None:
    original = network()
    wide = twins(original)
    pictures = [torch.rand(16, 3, 112, 112) * 2 - 1 for _ in range(2)]
    torch.testing.assert_close(wide(pictures[0]), original(pictures[0]), atol=1e-4, rtol=1e-3)
    slimmed = slim(wide, Widths(WIDE.convolutions, 8), pictures)
    result = slimmed.network
    unseen = torch.rand(4, 3, 112, 112) * 2 - 1
    with torch.inference_mode():
        cosines = torch.nn.functional.cosine_similarity(result(unseen), original(unseen))
    assert cosines.min() > 0.999
    maps = MapDistillation(wide, slimmed.predictors)
    assert maps(result, unseen, maps.projections(unseen)).error < 1e-4


def test_fewer_channels_than_necessary_approximate_the_network() -> None:
    original = network()
    result = slim_of(original).network
    unseen = torch.rand(4, 3, 112, 112) * 2 - 1
    with torch.inference_mode():
        expected = original(unseen)
        random = MobileNetV1(16, widths=Widths((7,) * 14, 6)).eval()(unseen)
        errors = [(output - expected).square().mean() for output in (result(unseen), random)]
    assert errors[0] < 0.6 * errors[1]


@settings(max_examples=30, deadline=None)
@given(st.integers(2, 6), st.integers(0, 10_000))
def test_selection_finds_the_inputs_that_determine_the_outputs(count: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    sources = rng.normal(size=(500, count))
    noise = rng.normal(size=(500, 5))
    inputs = torch.tensor(np.concatenate([noise, sources], 1))
    outputs = torch.tensor(sources @ (np.eye(count) + 0.1 * rng.normal(size=(count, count))) + 3.0)
    moments = Moments.of([(inputs[:200], outputs[:200]), (inputs[200:], outputs[200:])])
    chosen = moments.select(count)
    assert chosen.tolist() == list(range(5, 5 + count))
    weights, offset = moments.fit(chosen)
    torch.testing.assert_close(inputs[:, chosen] @ weights.T + offset, outputs, atol=0.02, rtol=0.02)


def test_all_inputs_are_selected_if_there_are_not_more() -> None:
    samples = torch.rand(50, 3), torch.rand(50, 2)
    assert Moments.of([samples]).select(7).tolist() == [0, 1, 2]


def test_exported_network_is_loaded_again(tmp_path: Path) -> None:
    original = network(Widths(WIDE.convolutions, 8))
    write_graph(original, torch.rand(2, 3, 112, 112), tmp_path / "model.onnx", "embeddings")
    loaded = MobileNetV1(16, widths=Widths(WIDE.convolutions, 8))
    load_exported(loaded, tmp_path / "model.onnx")
    pixels = torch.rand(4, 3, 112, 112) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(loaded.eval()(pixels), original(pixels), atol=0.02, rtol=0.02)  # half precision
    with pytest.raises(ValueError, match="does not have the backbone's architecture"):
        load_exported(MobileNetV1(16, widths=Widths((4,) * 14, 8)), tmp_path / "model.onnx")


def test_file_that_is_not_sface_is_rejected(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no graph")
    with pytest.raises(ConfigError, match="is not an ONNX file"):
        load_sface(tmp_path / "text.onnx")
    onnx.save(onnx.helper.make_model(onnx.helper.make_graph([], "empty", [], [])), tmp_path / "empty.onnx")
    with pytest.raises(ConfigError, match="is not published SFace"):
        load_sface(tmp_path / "empty.onnx")


def published_graph(original: MobileNetV1) -> onnx.ModelProto:
    """Returns the graph of a network as OpenCV Zoo publishes SFace: it scales pixels, and no batch norm is folded."""
    nodes: list[onnx.NodeProto] = []
    constants: list[onnx.TensorProto] = []

    def add(operator: str, source: str, values: list[torch.Tensor], **attributes: Any) -> str:
        name = f"value_{len(nodes)}"
        inputs = [f"{name}_{index}" for index in range(len(values))]
        constants.extend(
            onnx.numpy_helper.from_array(value.detach().numpy(), label)
            for value, label in zip(values, inputs, strict=True)
        )
        nodes.append(onnx.helper.make_node(operator, [source, *inputs], [name], **attributes))
        return name

    def normalise(source: str, norm: Any) -> str:
        values = [norm.weight, norm.bias, norm.running_mean, norm.running_var]
        return add("BatchNormalization", source, values, epsilon=norm.eps)

    value = add("Sub", "data", [torch.tensor([127.5])])
    value = add("Mul", value, [torch.tensor([1 / 128])])
    units: list[Any] = list(original.features)
    for unit in units:
        convolution = unit.convolution
        pads, kernel = list(convolution.padding) * 2, list(convolution.kernel_size)
        settings_ = {"pads": pads, "kernel_shape": kernel, "strides": list(convolution.stride)}
        value = add("Conv", value, [convolution.weight], group=convolution.groups, **settings_)
        value = add("PRelu", normalise(value, unit.norm), [unit.activation.weight[:, None, None]])
    value = add("Flatten", normalise(value, original.norm), [])
    value = add("Gemm", value, [original.linear.weight, original.linear.bias], transB=1)
    value = normalise(value, original.last_norm)
    data = onnx.helper.make_tensor_value_info("data", onnx.TensorProto.FLOAT, [1, 3, 112, 112])
    output = onnx.helper.make_tensor_value_info(value, onnx.TensorProto.FLOAT, [1, 128])
    graph = onnx.helper.make_graph(nodes, "published", [data], [output], constants)
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8)


def test_published_sface_is_read(tmp_path: Path) -> None:
    original = network(PUBLISHED, 128, batches=2)
    onnx.save(published_graph(original), tmp_path / "sface.onnx")
    pixels = torch.rand(2, 3, 112, 112) * 2 - 1
    with torch.inference_mode():
        torch.testing.assert_close(load_sface(tmp_path / "sface.onnx")(pixels), original(pixels), atol=1e-4, rtol=1e-3)


MODELS = Path(os.environ.get("MODELS") or "missing")


@pytest.mark.skipif(not (MODELS / "sface-int8.onnx").exists(), reason="MODELS= names no folder with sface-int8.onnx")
def test_published_8_bit_sface_is_read() -> None:
    pixels = torch.rand(1, 3, 112, 112) * 255
    session = onnxruntime.InferenceSession(str(MODELS / "sface-int8.onnx"), providers=["CPUExecutionProvider"])
    expected = torch.from_numpy(session.run(None, {session.get_inputs()[0].name: pixels.numpy()})[0])
    with torch.inference_mode():
        found = load_sface(MODELS / "sface-int8.onnx")((pixels - 127.5) / 128)
    assert torch.nn.functional.cosine_similarity(found, expected) > 0.9999
