"""An encoder in other formats than the bundle's ONNX, for those who run it elsewhere."""

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from service.inference.graph import RuntimeOptions, open_graph
from trainer.embedder import litert
from trainer.embedder.canvases import CROP
from trainer.tables import table

Floats = npt.NDArray[np.float32]
Run = Callable[[Floats], Floats]
PARITY, PARITY_INT8 = 0.9999, 0.8
"""Lowest cosine to the eager model that passes. What eight bits cost depends on the model: `formats.md` says it."""
CALLS = 30
ONE = RuntimeOptions(backend="openvino", threads=1)


class Format(StrEnum):
    """What else an export writes."""

    TORCHSCRIPT = "torchscript"
    TORCH_EXPORT = "torch-export"
    OPENVINO = "openvino"
    LITERT = "litert"
    LITERT_INT8 = "litert-int8"


FILES = {
    Format.TORCHSCRIPT: "model.torchscript.pt",
    Format.TORCH_EXPORT: "model.pt2",
    Format.OPENVINO: "model.xml",
    Format.LITERT: "model.tflite",
    Format.LITERT_INT8: "model-int8.tflite",
}


@dataclass(frozen=True)
class Written:
    """A file in another format: how near its embeddings are to the model's, and what it costs on one core."""

    name: str
    path: Path
    lowest_cosine: float
    milliseconds: float

    @property
    def megabytes(self) -> float:
        files = [self.path, self.path.with_suffix(".bin")] if self.path.suffix == ".xml" else [self.path]
        return sum(file.stat().st_size for file in files) / 1e6


def write(encoder: nn.Module, kind: Format, folder: Path, crops: Floats) -> Written:
    """Write the encoder beside the bundle's `model.onnx`, and check it against the eager one.

    TorchScript, torch.export and OpenVINO: (N, 3, size, size) to (N, D) not normalised. LiteRT: see `litert`.

    Args:
        crops: (N, 3, size, size) of real faces, normalised: what the check is made on, and what int8 is fitted to.

    Raises:
        ValueError: its embeddings differ.
        ConfigError: the format's packages are not installed.
    """
    path, size = folder / FILES[kind], crops.shape[-1]
    _WRITERS[kind](encoder, path, crops)
    run = runner(kind, path, size, crops.shape[1])
    lowest = require_parity(encoder, kind, run, crops, PARITY_INT8 if kind is Format.LITERT_INT8 else PARITY)
    return Written(kind, path, lowest, _milliseconds(run, crops[:1]))


def onnx_written(encoder: nn.Module, path: Path, crops: Floats) -> Written:
    """The bundle's own graph, as ONNX Runtime runs it, to compare with."""
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


def runner(kind: Format, path: Path, size: int = CROP, channels: int = 3) -> Run:
    """Runs a written file on (N, channels, size, size) arrays, on one core."""
    if kind in {Format.LITERT, Format.LITERT_INT8}:
        return litert.runner(path)
    if kind is Format.OPENVINO:
        return open_graph(path, size, ONE, channels).run
    scripted = kind is Format.TORCHSCRIPT
    loaded = torch.jit.load(str(path)) if scripted else torch.export.load(path).module()  # type: ignore[no-untyped-call]

    def run(pixels: Floats) -> Floats:
        with torch.inference_mode():
            return cast("Tensor", loaded(torch.from_numpy(pixels))).numpy()

    return run


def require_parity(encoder: nn.Module, name: str, run: Run, crops: Floats, parity: float = PARITY) -> float:
    """The lowest cosine between the eager model's embeddings of (N, 3, size, size) crops and another's.

    Raises:
        ValueError: it is below `parity`.
    """
    with torch.inference_mode():
        eager = nn.functional.normalize(encoder(torch.from_numpy(crops))).numpy()
    other = run(crops)
    other = other / np.linalg.norm(other, axis=1, keepdims=True)
    lowest = float((eager * other).sum(axis=1).min())
    if lowest < parity:
        raise ValueError(f"{name}: the embeddings differ from the model's (cosine {lowest:.6f})")
    return lowest


def noise(size: int, channels: int = 3, count: int = 16) -> Floats:
    """Crops of nothing, for a check without pictures."""
    drawn = torch.rand(count, channels, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
    return drawn.float().numpy()


def as_table(written: list[Written]) -> str:
    """The formats with their size, nearness and cost as Markdown."""
    rows = (
        (w.name, w.path.name, f"{w.megabytes:.1f}", f"{w.lowest_cosine:.6f}", f"{w.milliseconds:.2f}") for w in written
    )
    return table(("format", "file", "MB", "lowest cosine to the model", "ms a crop, one core"), rows)


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
