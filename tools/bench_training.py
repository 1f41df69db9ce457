"""`python -m tools.bench_training`: pictures a second of one training step, and what makes it faster on this machine.

A step is augmentation of 160 px canvases that lie decoded in memory, forward, distillation loss, backward, optimiser.
The last column is the share of the time in which the device waits for a batch from the cache of decoded canvases.
"""

import io
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from trainer.embedder.augmentation import Augmentation
from trainer.embedder.backbones import build_encoder, channels_last
from trainer.embedder.canvases import CANVAS, CanvasSet
from trainer.embedder.config import AugmentationConfig, SplitConfig, StageConfig
from trainer.embedder.data import FaceData
from trainer.embedder.loss_config import LossesConfig, TripletTerm
from trainer.embedder.losses import embedding_distillation

BATCH, DIM = 128, 128
STEPS = 4


def main(
    backbone: Annotated[list[str] | None, typer.Option(help="Which encoders; repeatable.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
) -> None:
    """Print the table."""
    table = Table(title=f"training, pictures a second, batches of {BATCH}, {device}", title_justify="left")
    loading = _seconds_to_load(device)
    for head in ("encoder", "f32", "bf16", "bf16, channels-last", "… compiled", "waits for data"):
        table.add_column(head, justify="left" if head == "encoder" else "right")
    for name in backbone or ["mobilefacenet", "residual_small"]:
        rates = [
            _pictures_per_second(_step(name, device, *options))
            for options in ((False, False, False), (True, False, False), (True, True, False), (True, True, True))
        ]
        waiting = loading / (loading + BATCH / rates[-1])
        table.add_row(name, *(f"{rate:.0f}" for rate in rates), f"{waiting:.1%}")
    console = Console()
    console.print(table)
    console.print(
        f"decoding alone, WebP canvases on one core: {_decoded_per_second():.0f} a second, saved by the cache"
    )


def _seconds_to_load(device: str) -> float:
    """One batch from the cache of decoded canvases to the device, as training reads it."""
    count, people = 4096, 512
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "canvases.npy"
        shape = (count, CANVAS, CANVAS, 3)
        pictures = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
        pictures[:] = np.random.default_rng(0).integers(0, 256, (CANVAS, CANVAS, 3), np.uint8)
        canvases = CanvasSet(np.load(file, mmap_mode="r"), [f"person {row % people}" for row in range(count)])
        stage = StageConfig(
            name="batch-hard",
            epochs=1,
            learning_rate=1,
            images_per_identity=4,
            losses=LossesConfig(triplet=TripletTerm()),
        )
        data = FaceData(canvases, np.zeros((count, DIM), np.float32), SplitConfig(), stage)
        times = []
        batches = iter(data.train_dataloader())
        for _ in range(16):
            started = time.perf_counter()
            next(batches).canvases.to(device)  # type: ignore[attr-defined]
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def _step(name: str, device: str, half: bool, last: bool, compiled: bool) -> Callable[[], None]:
    encoder = build_encoder(name, DIM).to(device)
    if last:
        encoder = channels_last(encoder)
    forward = torch.compile(encoder) if compiled else encoder
    optimizer = torch.optim.AdamW(encoder.parameters(), 1e-6)
    augment = Augmentation(AugmentationConfig())
    canvases = torch.randint(0, 256, (BATCH, CANVAS, CANVAS, 3), dtype=torch.uint8, device=device)
    targets = torch.randn(BATCH, DIM, device=device)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=half):
            pixels = augment(canvases)
            if last:
                pixels = pixels.contiguous(memory_format=torch.channels_last)
            embeddings = forward(pixels)
        embedding_distillation(embeddings.float(), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        optimizer.zero_grad()
        if device == "cuda":
            torch.cuda.synchronize()

    return step


def _pictures_per_second(step: Callable[[], None]) -> float:
    step()
    step()
    started = time.perf_counter()
    for _ in range(STEPS):
        step()
    return STEPS * BATCH / (time.perf_counter() - started)


def _decoded_per_second() -> float:
    noise = np.random.default_rng(0).integers(0, 255, (CANVAS // 8, CANVAS // 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((CANVAS, CANVAS)).save(buffer, "WEBP")
    started = time.perf_counter()
    for _ in range(200):
        np.asarray(Image.open(io.BytesIO(buffer.getvalue())).convert("RGB"))
    return 200 / (time.perf_counter() - started)


if __name__ == "__main__":
    typer.run(main)
