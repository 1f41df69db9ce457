"""Tests of importing public models, on small graphs with the structure of the published ones and random weights."""

import zipfile
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from typer.testing import CliRunner

from service.__main__ import app
from service.errors import StartupError
from service.importing import sources
from service.importing.constants import fold
from service.importing.detector_graphs import decode_in_graph
from service.importing.graph_kinds import STRIDES, DetectorKind, ImportedDetector, ImportedEmbedder, recognise
from service.inference.bundle import read_detector, read_embedder
from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions, open_graph

RNG = np.random.default_rng(5)
HEIGHT, WIDTH = 64, 96


def model_of(nodes: list, outputs: list, constants: dict, shape: list, opset: int = 13) -> onnx.ModelProto:
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)]
    graph = helper.make_graph(nodes, "test", inputs, outputs, initializers)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


def detector(kind: DetectorKind, landmarks: bool = True, opset: int = 13) -> onnx.ModelProto:
    """A graph with one convolution for each output. YuNet keeps the pictures apart; SCRFD's form joins them."""
    anchors = 1 if kind is DetectorKind.YUNET else 2
    parts = [("score", 1), ("object", 1)] if kind is DetectorKind.YUNET else [("score", 1)]
    parts += [("box", 4)] + ([("points", 10)] if landmarks else [])
    nodes, outputs, constants = [], [], {}
    for part, size in parts:
        for stride in STRIDES:
            name = f"{part}_{stride}"
            weights = RNG.normal(size=(size * anchors, 3, stride, stride)) / stride**2
            constants[f"{name}_w"] = weights.astype(np.float32)
            shape = [0, -1, size] if kind is DetectorKind.YUNET else [-1, size]
            constants[f"{name}_s"] = np.array(shape, np.int64)
            perm = [0, 2, 3, 1] if kind is DetectorKind.YUNET else [2, 3, 0, 1]
            nodes += [
                helper.make_node("Conv", ["input", f"{name}_w"], [f"{name}_c"], strides=[stride, stride]),
                helper.make_node("Transpose", [f"{name}_c"], [f"{name}_t"], perm=perm),
                helper.make_node("Reshape", [f"{name}_t", f"{name}_s"], [f"{name}_r"]),
            ]
            if part in ("score", "object"):
                nodes.append(helper.make_node("Sigmoid", [f"{name}_r"], [f"{name}_g"]))
            result = f"{name}_g" if part in ("score", "object") else f"{name}_r"
            dims = ["n", "cells", size] if kind is DetectorKind.YUNET else ["cells", size]
            outputs.append(helper.make_tensor_value_info(result, TensorProto.FLOAT, dims))
    return model_of(nodes, outputs, constants, [1, 3, "height", "width"], opset)


def embedder(scales_itself: bool = False, dim: int = 64) -> onnx.ModelProto:
    """A graph for one picture, whose last reshaping has the constant shape (1, dim)."""
    constants = {
        "weights": (RNG.normal(size=(dim, 3, 112, 112)) / 112).astype(np.float32),
        "shape": np.array([1, dim], np.int64),
    }
    nodes, value = [], "input"
    if scales_itself:
        constants |= {"mean": np.array([127.5], np.float32), "factor": np.array([1 / 128], np.float32)}
        nodes += [helper.make_node("Sub", ["input", "mean"], ["centred"])]
        nodes += [helper.make_node("Mul", ["centred", "factor"], ["scaled"])]
        value = "scaled"
    nodes.append(helper.make_node("Conv", [value, "weights"], ["planes"]))
    nodes.append(helper.make_node("Reshape", ["planes", "shape"], ["output"]))
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, dim])]
    return model_of(nodes, outputs, constants, [1, 3, 112, 112])


def expected_rows(kind: DetectorKind, outputs: dict[str, np.ndarray]) -> np.ndarray:
    """Decodes the published outputs of one picture cell by cell, as the authors' code does."""
    rows = []
    for stride in STRIDES:
        columns = WIDTH // stride
        anchors = 1 if kind is DetectorKind.YUNET else 2
        scores = outputs[f"score_{stride}_g"].reshape(-1)
        boxes = outputs[f"box_{stride}_r"].reshape(-1, 4)
        points = outputs[f"points_{stride}_r"].reshape(-1, 5, 2)
        for number, (score, box, five) in enumerate(zip(scores, boxes, points, strict=True)):
            row, column = divmod(number // anchors, columns)
            cell = np.array([column, row])
            if kind is DetectorKind.YUNET:
                score = np.sqrt(score * outputs[f"object_{stride}_g"].reshape(-1)[number])
                centre, side = (cell + box[:2]) * stride, np.exp(box[2:]) * stride
                five = (five + cell) * stride
            else:
                low, high = cell * stride - box[:2] * stride, cell * stride + box[2:] * stride
                centre, side = (low + high) / 2, high - low
                five = five * stride + cell * stride
            rows.append([*centre, *side, score, *np.column_stack([five, np.ones(5)]).ravel()])
    return np.array(rows, np.float32)


@pytest.mark.parametrize("backend", ["openvino", "onnxruntime"])
@pytest.mark.parametrize("kind", DetectorKind)
def test_detectors_are_decoded_in_the_graph(kind: DetectorKind, backend: str, tmp_path: Path) -> None:
    """Also for several pictures at once, although the published form of SCRFD takes one."""
    import onnxruntime

    model = detector(kind)
    pictures = RNG.normal(size=(3, 3, HEIGHT, WIDTH)).astype(np.float32)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    names = [item.name for item in session.get_outputs()]
    published = [session.run(None, {"input": picture[None]}) for picture in pictures]
    expected = [expected_rows(kind, dict(zip(names, outputs, strict=True))) for outputs in published]
    recognised = recognise(model, "detector.onnx")
    assert isinstance(recognised, ImportedDetector)
    assert recognised.kind is kind
    assert decode_in_graph(model, recognised, "detector.onnx") == 5
    file = tmp_path / "model.onnx"
    onnx.save(model, str(file))
    graph = open_graph(file, 64, RuntimeOptions(backend), resizable=True)  # type: ignore[arg-type]
    decoded = graph.run(pictures).transpose(0, 2, 1)
    np.testing.assert_allclose(decoded, np.stack(expected), atol=2e-3, rtol=1e-4)


def test_a_detector_without_landmarks_is_imported(tmp_path: Path) -> None:
    file = tmp_path / "boxes.onnx"
    onnx.save(detector(DetectorKind.SCRFD, landmarks=False), str(file))
    result = CliRunner().invoke(app, ["models", "import", str(file), "--model-id", "boxes", "--output", str(tmp_path)])
    assert result.exit_code == 0, result.exception
    assert read_detector(tmp_path / "detector").landmarks == 0


@pytest.mark.parametrize("scales_itself", [False, True])
def test_an_embedder_accepts_any_number_of_pictures(tmp_path: Path, scales_itself: bool) -> None:
    model = embedder(scales_itself)
    assert recognise(model, "embedder.onnx") == ImportedEmbedder(112, 64, scales_itself)
    file = tmp_path / "anything.onnx"
    onnx.save(model, str(file))
    arguments = ["models", "import", str(file), "--model-id", "mine", "--output", str(tmp_path)]
    result = CliRunner().invoke(app, arguments if scales_itself else [*arguments, "--scaling", "127.5/128"])
    assert result.exit_code == 0, result.exception
    manifest = read_embedder(tmp_path / "embedder")
    assert (manifest.scaling.mean, manifest.scaling.std) == ((0, 1) if scales_itself else (127.5, 128))
    imported = FaceEmbedder(tmp_path / "embedder", RuntimeOptions())
    faces = [RNG.integers(0, 256, (112, 112, 3), np.uint8) for _ in range(3)]
    weights = next(item for item in model.graph.initializer if item.name == "weights")
    planes = np.stack([(face.astype(np.float32) - 127.5) / 128 for face in faces]).transpose(0, 3, 1, 2)
    expected = np.einsum("bchw,echw->be", planes, numpy_helper.to_array(weights))
    expected /= np.linalg.norm(expected, axis=1, keepdims=True)
    assert (imported.embed(faces) * expected).sum(axis=1).min() > 0.9999


def test_quantised_weights_become_constants() -> None:
    weights = RNG.integers(-128, 128, (4, 128), np.int8)
    scales = RNG.uniform(0.1, 1, (4, 2)).astype(np.float32)
    node = helper.make_node("DequantizeLinear", ["weights", "scales"], ["real"], axis=1, block_size=64)
    shape = helper.make_node("Reshape", ["real", "shape"], ["flat"])
    product = helper.make_node("Mul", ["input", "flat"], ["output"])
    outputs = [helper.make_tensor_value_info("output", TensorProto.FLOAT, [512])]
    constants = {"weights": weights, "scales": scales, "shape": np.array([512], np.int64)}
    model = model_of([node, shape, product], outputs, constants, [512], opset=21)
    fold(model)
    assert [item.op_type for item in model.graph.node] == ["Mul"]
    [value] = [numpy_helper.to_array(item) for item in model.graph.initializer]
    np.testing.assert_allclose(value, (weights * scales.repeat(64, axis=1)).ravel(), rtol=1e-6)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["missing.onnx"], "does not exist"),
        (["text.onnx"], "text.onnx is not an ONNX file"),
        (["other.onnx"], "neither YuNet, SCRFD nor an embedder"),
        (["notes.txt"], "is no .onnx file, checkpoint"),
        (["empty"], "there is no .onnx file in"),
        (["embedder.onnx"], "its structure does not tell the scaling; name it with --scaling"),
        (["embedder.onnx", "--scaling", "x"], "write two numbers, such as 127.5/128"),
        (["embedder.onnx", "--scaling", "0/0"], "the deviation must be positive"),
        (["scaled.onnx", "--scaling", "127.5/128"], "scales pixel values itself; omit --scaling"),
        (["embedder.onnx", "scaled.onnx", "--scaling", "0/1"], r"found 2 embedders \(embedder.onnx, scaled.onnx\)"),
        (["old.onnx"], "uses version 10 of the ONNX operators"),
        (["scaled.onnx", "--model-id", "No"], "use 3 to 64 lower-case letters"),
    ],
)
def test_unusable_files_are_rejected_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], message: str
) -> None:
    (tmp_path / "text.onnx").write_text("not a model")
    (tmp_path / "notes.txt").write_text("not a model")
    (tmp_path / "empty").mkdir()
    other = model_of(
        [helper.make_node("Relu", ["input"], ["output"])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 3, 96, 96])],
        {},
        [1, 3, 96, 96],
    )
    models = {"other": other, "embedder": embedder(), "scaled": embedder(True)}
    models["old"] = detector(DetectorKind.YUNET, opset=10)
    for name, model in models.items():
        onnx.save(model, str(tmp_path / f"{name}.onnx"))
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["models", "import", "--model-id", "mine", "--output", "output", *arguments])
    assert isinstance(result.exception, StartupError)
    with pytest.raises(StartupError, match=message):
        raise result.exception
    output = tmp_path / "output"
    assert not output.exists() or not list(output.iterdir())


def test_the_files_of_an_import_are_bounded_and_damaged_archives_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("a", "b", "c"):
        (tmp_path / f"{name}.onnx").write_bytes(bytes(400))
    monkeypatch.setattr(sources, "MAX_BYTES", 1_000)
    with pytest.raises(StartupError, match=r"the files up to c\.onnx have 1,200 bytes; at most 1,000"):
        sources.read_sources([tmp_path])
    monkeypatch.setattr(sources, "MAX_FILES", 2)
    monkeypatch.setattr(sources, "MAX_BYTES", 10_000)
    with pytest.raises(StartupError, match=r"more than 2 \.onnx files"):
        sources.read_sources([tmp_path])
    archive = tmp_path / "pack.zip"
    with zipfile.ZipFile(archive, "w") as pack:
        pack.writestr("a.onnx", b"some bytes of a model")
    archive.write_bytes(archive.read_bytes().replace(b"some bytes", b"same bytes"))
    with pytest.raises(StartupError, match=r"a\.onnx of .* cannot be read: Bad CRC-32"):
        sources.read_sources([archive])


def test_a_pack_is_imported_without_its_other_models(tmp_path: Path) -> None:
    other = model_of(
        [helper.make_node("Relu", ["input"], ["output"])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 3, 96, 96])],
        {},
        [1, 3, 96, 96],
    )
    with zipfile.ZipFile(tmp_path / "pack.zip", "w") as archive:
        archive.writestr("pack/a.onnx", detector(DetectorKind.SCRFD).SerializeToString())
        archive.writestr("pack/b.onnx", embedder().SerializeToString())
        archive.writestr("pack/attributes.onnx", other.SerializeToString())
        archive.writestr("pack/readme.txt", "text")
    arguments = ["models", "import", str(tmp_path / "pack.zip"), "--model-id", "pack-1", "--scaling", "127.5/127.5"]
    result = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "pack"), "--terms", "research only"])
    assert result.exit_code == 0, result.exception
    assert "not imported: attributes.onnx" in result.output
    assert read_detector(tmp_path / "pack" / "detector").margin == 0
    manifest = read_embedder(tmp_path / "pack" / "embedder")
    assert (manifest.model_id, manifest.provenance.terms) == ("pack-1", "research only")
    again = CliRunner().invoke(app, [*arguments, "--output", str(tmp_path / "pack")])
    assert "exists; name another folder" in str(again.exception)
