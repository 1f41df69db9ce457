"""Compares decoding in a decoder process with decoding in the calling process, for JPEG pictures of several sizes.

    python -m tools.bench_decoding

The difference is the cost of the isolation. Times are medians on this machine.
"""

import asyncio
import io
import statistics
import time
from typing import Annotated

import numpy as np
import typer
from PIL import Image
from rich.console import Console
from rich.table import Table

from service.inference.decoding.client import DecoderLimits
from service.inference.decoding.pool import DecoderPool
from service.vision.image import decode

SIDES = (250, 800, 1600, 3000, 4500)


def photo(side: int) -> bytes:
    """Returns a square JPEG of smooth random colours."""
    small = np.random.default_rng(0).integers(0, 255, (side // 8, side // 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(small).resize((side, side), Image.Resampling.BICUBIC).save(file, "JPEG", quality=90)
    return file.getvalue()


async def measure(repetitions: int) -> Table:
    """Returns a table of both times by size."""
    table = Table("side", "bytes", "same process, ms", "decoder process, ms", "difference, ms")
    limits = DecoderLimits()
    pool = DecoderPool(1, limits)
    await pool.start()
    for side in SIDES:
        data, own, isolated = photo(side), [], []
        await pool.decode(data)
        for _ in range(repetitions):
            started = time.perf_counter()
            decode(data, limits.image)
            between = time.perf_counter()
            await pool.decode(data)
            own.append(1000 * (between - started))
            isolated.append(1000 * (time.perf_counter() - between))
        one, other = statistics.median(own), statistics.median(isolated)
        table.add_row(str(side), f"{len(data):,}", f"{one:.2f}", f"{other:.2f}", f"{other - one:+.2f}")
    await pool.stop()
    return table


def main(repetitions: Annotated[int, typer.Option(help="Pictures of each size.")] = 40) -> None:
    """Measure the cost of decoding in a separate process."""
    Console().print(asyncio.run(measure(repetitions)))


if __name__ == "__main__":
    typer.run(main)
