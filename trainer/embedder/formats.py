"""Writes an encoder in further formats, for runtimes other than the service's."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from service.inference.graph import RuntimeOptions, open_graph
from trainer.choices import Format
from trainer.embedder import litert
from trainer.embedder.aligned_crops import CENTRE_SIZE
from trainer.embedder.kotlin import write_snippet
from trainer.tables import table

Floats = npt.NDArray[np.float32]
Run = Callable[[Floats], Floats]
PARITY, PARITY_INT8 = 0.9999, 0.8
"""Lowest accepted cosine to the PyTorch model. The loss of int8 depends on the model; `formats.md` reports it."""
CALLS = 30
COLOURS = 3
ONE_THREAD = RuntimeOptions(backend="openvino", threads=1)


FILES = {
    Format.TORCHSCRIPT: "model.torchscript.pt",
    Format.TORCH_EXPORT: "model.pt2",
    Format.OPENVINO: "model.xml",
    Format.LITERT: "model.tflite",
    Format.LITERT_INT8: "model-int8.tflite",
}


@dataclass(frozen=True)
class Written:
    """A file in a further format.

    Attributes:
        lowest_cosine: Lowest cosine between its embeddings and those of the PyTorch model.
        milliseconds: Median time of one crop on one core.
    """

    name: str
    path: Path
    lowest_cosine: float
    milliseconds: float

    @property
    def megabytes(self) -> float:
        files = [self.path, self.path.with_suffix(".bin")] if self.path.suffix == ".xml" else [self.path]
        return sum(file.stat().st_size for file in files) / 1e6


def write(encoder: nn.Module, kind: Format, folder: Path, crops: Floats) -> Written:
    """Writes the encoder beside the bundle's `model.onnx` and compares it with the PyTorch model.

    TorchScript, torch.export and OpenVINO files map (N, 3, size, size) to (N, D), not normalised. LiteRT: see `litert`.

    Args:
        crops: (N, 3, size, size) normalised crops of real faces, for the comparison and to calibrate int8.

    Raises:
        ValueError: The embeddings differ from those of the PyTorch model.
        ConfigError: The packages of the format are not installed.
    """
    path, size = folder / FILES[kind], crops.shape[-1]
    _WRITERS[kind](encoder, path, crops)
    if kind in {Format.LITERT, Format.LITERT_INT8} and crops.shape[1] == COLOURS:
        write_snippet(folder, path.name, size, _dimension(encoder, crops))
    run = runner(kind, path, size, crops.shape[1])
    lowest = require_parity(encoder, kind, run, crops, PARITY_INT8 if kind is Format.LITERT_INT8 else PARITY)
    return Written(kind, path, lowest, _milliseconds(run, crops[:1]))


def _dimension(encoder: nn.Module, crops: Floats) -> int:
    with torch.inference_mode():
        return int(encoder(torch.from_numpy(crops[:1])).shape[1])


def onnx_written(encoder: nn.Module, path: Path, crops: Floats) -> Written:
    """Measures the bundle's graph in ONNX Runtime, for comparison with the other formats."""
    run = open_graph(path, crops.shape[-1], RuntimeOptions(backend="onnxruntime", threads=1), crops.shape[1]).run
    return Written("onnx", path, require_parity(encoder, "onnx", run, crops), _milliseconds(run, crops[:1]))


def _torchscript(encoder: nn.Module, path: Path, crops: Floats) -> None:
    torch.jit.save(torch.jit.trace(encoder, torch.from_numpy(crops[:2])), str(path))  # type: ignore[no-untyped-call]


def _torch_export(encoder: nn.Module, path: Path, crops: Floats) -> None:
    pictures = torch.export.Dim("pictures", min=1, max=4096)
    example = torch.from_numpy(crops[:2])
    torch.export.save(torch.export.export(encoder, (example,), dynamic_shapes=({0: pictures},)), path)


def _openvino(_: nn.Module, path: Path, __: Floats) -> None:
    import openvino

    openvino.save_model(openvino.convert_model(str(path.with_name("model.onnx"))), str(path), compress_to_fp16=False)


def _litert(encoder: nn.Module, path: Path, crops: Floats) -> None:
    litert.write_float(encoder, path, crops.shape[1:])


def _litert_int8(encoder: nn.Module, path: Path, crops: Floats) -> None:
    source = path.with_name(FILES[Format.LITERT])
    if not source.exists():
        litert.write_float(encoder, source, crops.shape[1:])
    litert.write_int8(source, path, crops)


_WRITERS: dict[Format, Callable[[nn.Module, Path, Floats], None]] = {
    Format.TORCHSCRIPT: _torchscript,
    Format.TORCH_EXPORT: _torch_export,
    Format.OPENVINO: _openvino,
    Format.LITERT: _litert,
    Format.LITERT_INT8: _litert_int8,
}


def runner(kind: Format, path: Path, size: int = CENTRE_SIZE, channels: int = 3) -> Run:
    """Returns a function that runs a file on (N, channels, size, size) arrays, on one core."""
    if kind in {Format.LITERT, Format.LITERT_INT8}:
        return litert.runner(path)
    if kind is Format.OPENVINO:
        return open_graph(path, size, ONE_THREAD, channels).run
    scripted = kind is Format.TORCHSCRIPT
    loaded = torch.jit.load(str(path)) if scripted else torch.export.load(path).module()  # type: ignore[no-untyped-call]

    def run(pixels: Floats) -> Floats:
        with torch.inference_mode():
            return cast("Tensor", loaded(torch.from_numpy(pixels))).numpy()

    return run


def require_parity(encoder: nn.Module, name: str, run: Run, crops: Floats, parity: float = PARITY) -> float:
    """Returns the lowest cosine between the embeddings of the PyTorch model and of another file.

    Args:
        crops: (N, 3, size, size) normalised.

    Raises:
        ValueError: The cosine is below `parity`.
    """
    with torch.inference_mode():
        eager = nn.functional.normalize(encoder(torch.from_numpy(crops))).numpy()
    other = run(crops)
    other = other / np.linalg.norm(other, axis=1, keepdims=True)
    lowest = float((eager * other).sum(axis=1).min())
    if lowest < parity:
        raise ValueError(
            f"{name}: the embeddings differ from those of the PyTorch model (cosine {lowest:.6f} < {parity})"
        )
    return lowest


def noise(size: int, channels: int = 3, count: int = 16) -> Floats:
    """Returns random crops with values from -1 to 1, for a comparison without pictures."""
    values = torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return values.float().numpy()


def as_table(written: list[Written]) -> str:
    """Returns size, parity and speed of the formats as a Markdown table."""
    rows = (
        (w.name, w.path.name, f"{w.megabytes:.1f}", f"{w.lowest_cosine:.6f}", f"{w.milliseconds:.2f}") for w in written
    )
    return table(("format", "file", "MB", "lowest cosine to PyTorch", "ms per crop, one core"), rows)


def _milliseconds(run: Run, crop: Floats) -> float:
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        run(crop)
        seconds = []
        for _ in range(CALLS):
            started = time.perf_counter()
            run(crop)
            seconds.append(time.perf_counter() - started)
    finally:
        torch.set_num_threads(threads)
    return 1000 * statistics.median(seconds)
