"""`python -m tools.bench_training`: measures training steps of the embedder, in pictures per second, on this machine.

A step is augmentation of 160 px aligned crops in memory, forward pass, distillation loss, backward pass, and optimiser.
The last column is the share of time in which the device waits for a batch from the cache of decoded crops.
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
from rich.progress import track
from rich.table import Table

from trainer.embedder.aligned_crops import CROP_SIZE, AlignedCrops
from trainer.embedder.augmentation import Augmentation
from trainer.embedder.backbones import build_encoder, channels_last
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.data import FaceData
from trainer.embedder.input_config import AugmentationConfig
from trainer.embedder.loss_config import LossesConfig, TripletTerm
from trainer.embedder.losses import embedding_distillation
from trainer.embedder.stage_config import StageConfig

BATCH, DIM = 128, 128
WARM_UP_STEPS, STEPS = 2, 4
CROPS, PEOPLE, BATCHES = 4096, 512, 16
DECODED = 200
VARIANTS = {
    "f32": (False, False, False),
    "bf16": (True, False, False),
    "bf16, channels-last": (True, True, False),
    "… compiled": (True, True, True),
}
"""bfloat16, channels-last, torch.compile."""


def main(
    backbone: Annotated[list[str] | None, typer.Option(help="Backbone of the encoder; repeatable.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
) -> None:
    """Print pictures per second of each backbone, by precision, memory format and compilation."""
    table = Table(title=f"training, pictures per second, batches of {BATCH}, {device}", title_justify="left")
    loading = _seconds_per_batch(device)
    for head in ("encoder", *VARIANTS, "waits for data"):
        table.add_column(head, justify="left" if head == "encoder" else "right")
    for name in track(backbone or ["mobilefacenet", "residual_small"], description="backbones", transient=True):
        rates = [_pictures_per_second(_step(name, device, *options)) for options in VARIANTS.values()]
        waiting = loading / (loading + BATCH / rates[-1])
        table.add_row(name, *(f"{rate:.0f}" for rate in rates), f"{waiting:.1%}")
    console = Console()
    console.print(table)
    console.print(f"decoding WebP crops on one core, which the cache avoids: {_decoded_per_second():.0f} per second")


def _seconds_per_batch(device: str) -> float:
    """Returns the median time to load a batch from the cache of decoded crops to the device, as training does."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder) / "crops.npy"
        shape = (CROPS, CROP_SIZE, CROP_SIZE, 3)
        pictures = np.lib.format.open_memmap(file, mode="w+", dtype=np.uint8, shape=shape)
        pictures[:] = np.random.default_rng(0).integers(0, 256, (CROP_SIZE, CROP_SIZE, 3), np.uint8)
        crops = AlignedCrops(np.load(file, mmap_mode="r"), [f"person {row % PEOPLE}" for row in range(CROPS)])
        stage = StageConfig(
            name="batch-hard",
            epochs=1,
            learning_rate=1,
            images_per_identity=4,
            losses=LossesConfig(triplet=TripletTerm()),
        )
        data = FaceData(crops, np.zeros((CROPS, DIM), np.float32), EmbedderConfig(stages=[stage]))
        times = []
        batches = iter(data.train_dataloader())
        for _ in range(BATCHES):
            started = time.perf_counter()
            next(batches).crops.to(device)
            if device == "cuda":
                torch.cuda.synchronize()
            times.append(time.perf_counter() - started)
    return statistics.median(times)


def _step(name: str, device: str, bfloat16: bool, last: bool, compiled: bool) -> Callable[[], None]:
    """Returns a training step on random pictures. `last`: channels-last memory format."""
    encoder = build_encoder(name, DIM).to(device)
    if last:
        encoder = channels_last(encoder)
    forward = torch.compile(encoder) if compiled else encoder
    optimizer = torch.optim.AdamW(encoder.parameters(), 1e-6)
    augment = Augmentation(AugmentationConfig())
    crops = torch.randint(0, 256, (BATCH, CROP_SIZE, CROP_SIZE, 3), dtype=torch.uint8, device=device)
    targets = torch.randn(BATCH, DIM, device=device)

    def step() -> None:
        with torch.autocast(device, torch.bfloat16, enabled=bfloat16):
            pixels = augment(crops)
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
    for _ in range(WARM_UP_STEPS):
        step()
    started = time.perf_counter()
    for _ in range(STEPS):
        step()
    return STEPS * BATCH / (time.perf_counter() - started)


def _decoded_per_second() -> float:
    noise = np.random.default_rng(0).integers(0, 255, (CROP_SIZE // 8, CROP_SIZE // 8, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(noise).resize((CROP_SIZE, CROP_SIZE)).save(buffer, "WEBP")
    started = time.perf_counter()
    for _ in range(DECODED):
        np.asarray(Image.open(io.BytesIO(buffer.getvalue())).convert("RGB"))
    return DECODED / (time.perf_counter() - started)


if __name__ == "__main__":
    typer.run(main)
