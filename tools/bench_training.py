"""`python -m tools.bench_training`: pictures a second of one training step, and what makes it faster on this machine.

A step is augmentation of 160 px canvases that lie decoded in memory, forward, distillation loss, backward, optimiser.
"""

import io
import time
from collections.abc import Callable
from typing import Annotated

import numpy as np
import torch
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from trainer.embedder.augmentation import Augmentation
from trainer.embedder.backbones import build_encoder, channels_last
from trainer.embedder.canvases import CANVAS
from trainer.embedder.config import AugmentationConfig
from trainer.embedder.losses import embedding_distillation

BATCH, DIM = 128, 128
STEPS = 4


def main(
    backbone: Annotated[list[str] | None, typer.Option(help="Which encoders; repeatable.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
) -> None:
    """Print the table."""
    table = Table(title=f"training, pictures a second, batches of {BATCH}, {device}", title_justify="left")
    for head in ("encoder", "f32", "bf16", "bf16, channels-last", "… compiled"):
        table.add_column(head, justify="left" if head == "encoder" else "right")
    for name in backbone or ["mobilefacenet", "residual_small"]:
        rates = [
            _pictures_per_second(_step(name, device, *options))
            for options in ((False, False, False), (True, False, False), (True, True, False), (True, True, True))
        ]
        table.add_row(name, *(f"{rate:.0f}" for rate in rates))
    console = Console()
    console.print(table)
    console.print(
        f"decoding alone, WebP canvases on one core: {_decoded_per_second():.0f} a second, saved by the cache"
    )


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
