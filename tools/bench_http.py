"""Measures how many photos per second the service recognises over HTTP, by the size of the photos.

    python -m tools.bench_http --photos folder

Service, database and load generator share this machine. Each client sends its next request when it has the answer to
the previous one. A request is `POST /search` with one photo; its size is that of `python -m tools.bench_peers`.
"""

import asyncio
import base64
import itertools
import json
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import aiohttp
import httpx
import psutil
import typer

from service.demo.server import running_registry
from tools.bench_peers import SIZES, jpeg, photos_in
from trainer.tables import table

WARM_UP_S = 2.0


def enrol(client: httpx.Client, photos: Sequence[bytes]) -> int:
    """Enrols one identity for each photo; returns how many were accepted."""
    bodies = ({"label": f"person {n}", "images": [base64.b64encode(data).decode()]} for n, data in enumerate(photos))
    return sum(client.post("/register", json=body).status_code == httpx.codes.CREATED for body in bodies)


async def load(client: httpx.Client, photos: Sequence[bytes], clients: int, seconds: float) -> list[float]:
    """Sends photos with several clients for a while; returns the seconds of each request after the warm-up."""
    bodies = itertools.cycle([json.dumps({"image": base64.b64encode(data).decode()}).encode() for data in photos])
    headers = dict(client.headers) | {"content-type": "application/json"}
    url, times, started = str(client.base_url.join("/search")), [], time.perf_counter()

    async def send(session: aiohttp.ClientSession) -> None:
        while (begun := time.perf_counter()) < started + WARM_UP_S + seconds:
            async with session.post(url, data=next(bodies), headers=headers) as response:
                await response.read()
                response.raise_for_status()
            if begun > started + WARM_UP_S:
                times.append(time.perf_counter() - begun)

    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=clients)) as session:
        await asyncio.gather(*(send(session) for _ in range(clients)))
    return times


def service_mb() -> float:
    """Returns the memory of the service and its decoder processes in MB; memory that they share counts once."""
    children = psutil.Process().children(recursive=True)
    service = [child for child in children if "-m service" in " ".join(child.cmdline()[1:3])]
    decoders = [child for child in children if "service.inference.decoding.process" in child.cmdline()]
    return sum(process.memory_full_info().pss for process in service + decoders) / 1e6


def main(
    photos: Annotated[Path | None, typer.Option(help="Folder of photos; default: those of the demonstration.")] = None,
    clients: Annotated[int, typer.Option(min=1, help="Number of clients.")] = 16,
    seconds: Annotated[float, typer.Option(min=1, help="Seconds of each measurement, after two of warm-up.")] = 8,
    count: Annotated[int, typer.Option(min=1, help="Number of photos.")] = 20,
) -> None:
    """Print photos per second and latencies by the size of the photos."""
    chosen, rows = photos_in(photos, count), []
    with running_registry() as client:
        accepted = enrol(client, [jpeg(photo, 640, 640) for photo in chosen])
        for width, height in SIZES:
            files = [jpeg(photo, width, height) for photo in chosen]
            times = asyncio.run(load(client, files, clients, seconds))
            milliseconds = [1000 * value for value in times]
            p95 = statistics.quantiles(milliseconds, n=20)[-1]
            speed, p50 = f"{len(times) / seconds:.1f}", f"{statistics.median(milliseconds):.0f}"
            rows.append((f"{width} x {height}", speed, p50, f"{p95:.0f}", f"{service_mb():.0f}"))
    typer.echo(f"{accepted} of {len(chosen)} people enrolled, {clients} clients")
    typer.echo(table(("picture", "photos/s", "p50 ms", "p95 ms", "memory in MB"), rows))


if __name__ == "__main__":
    typer.run(main)
