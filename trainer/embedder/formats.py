"""An encoder in other formats than the bundle's ONNX, for those who run it elsewhere."""

from collections.abc import Callable
from enum import StrEnum
from pathlib import Path
from typing import cast

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from trainer.embedder.canvases import CROP

Floats = npt.NDArray[np.float32]
PARITY = 0.9999
"""Lowest cosine to the eager model that passes."""


class Format(StrEnum):
    """What else an export writes."""

    TORCHSCRIPT = "torchscript"
    TORCH_EXPORT = "torch-export"


def write(encoder: nn.Module, kind: Format, folder: Path, size: int = CROP) -> Path:
    """Write the encoder, (N, 3, size, size) to (N, D) not normalised, and check it against the eager one.

    Raises:
        ValueError: its embeddings differ.
    """
    path = folder / {Format.TORCHSCRIPT: "model.torchscript.pt", Format.TORCH_EXPORT: "model.pt2"}[kind]
    example = torch.rand(2, 3, size, size) * 2 - 1
    if kind is Format.TORCHSCRIPT:
        torch.jit.save(torch.jit.trace(encoder, example), str(path))  # type: ignore[no-untyped-call]
    else:
        pictures = torch.export.Dim("pictures", min=1, max=4096)
        torch.export.save(torch.export.export(encoder, (example,), dynamic_shapes=({0: pictures},)), path)
    require_parity(encoder, str(kind), runner(kind, path), size=size)
    return path


def runner(kind: Format, path: Path) -> Callable[[Floats], Floats]:
    """Runs a written file on (N, 3, 112, 112) arrays."""
    scripted = kind is Format.TORCHSCRIPT
    loaded = torch.jit.load(str(path)) if scripted else torch.export.load(path).module()  # type: ignore[no-untyped-call]

    def run(pixels: Floats) -> Floats:
        with torch.inference_mode():
            return cast("Tensor", loaded(torch.from_numpy(pixels))).numpy()

    return run


def require_parity(
    encoder: nn.Module, name: str, run: Callable[[Floats], Floats], pixels: Floats | None = None, size: int = CROP
) -> float:
    """The lowest cosine between the eager model's embeddings and another's, of the given crops or of noise of `size`.

    Raises:
        ValueError: it is below `PARITY`.
    """
    if pixels is None:
        noise = torch.rand(16, 3, size, size, generator=torch.Generator().manual_seed(0)) * 2 - 1
        pixels = noise.float().numpy()
    with torch.inference_mode():
        eager = nn.functional.normalize(encoder(torch.from_numpy(pixels))).numpy()
    other = run(pixels)
    other = other / np.linalg.norm(other, axis=1, keepdims=True)
    lowest = float((eager * other).sum(axis=1).min())
    if lowest < PARITY:
        raise ValueError(f"{name}: the embeddings differ from the model's (cosine {lowest:.6f})")
    return lowest
