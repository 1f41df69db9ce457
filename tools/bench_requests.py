"""Measures the time of requests apart from inference: searches and registrations with embeddings in place of pictures.

    python -m tools.bench_requests

Service, database and load generator share this machine. Registrations are durable, audited, and go into one collection.
"""

import asyncio
import base64
import itertools
import json
import statistics
import time
from collections.abc import Iterator
from typing import Annotated

import aiohttp
import httpx
import numpy as np
import typer

from service.demo.server import running_registry
from trainer.tables import table

ENROLLED = 200
WARM_UP = 40


def embeddings(dim: int, seed: int) -> Iterator[str]:
    """Yields random normalised embeddings in Base64."""
    rng = np.random.default_rng(seed)
    while True:
        vector = rng.normal(size=dim)
        vector /= np.linalg.norm(vector)
        yield base64.b64encode(vector.astype("<f4").tobytes()).decode()


def bodies(path: str, dim: int, model_id: str, seed: int) -> Iterator[bytes]:
    """Yields request bodies for a path."""
    for number, embedding in enumerate(embeddings(dim, seed)):
        content: dict[str, object] = {"embedding": embedding}
        if path == "/register":
            content = {"label": f"{seed}-{number}", "embeddings": [embedding], "force": True}
        yield json.dumps(content | {"model_id": model_id}).encode()


async def measure(client: httpx.Client, path: str, sent: Iterator[bytes], clients: int, seconds: float) -> list[float]:
    """Returns the milliseconds of each request of several clients, which send the next one after each answer."""
    url, headers = str(client.base_url.join(path)), {"content-type": "application/json"}
    times: list[float] = []

    async def send(session: aiohttp.ClientSession) -> None:
        started = time.perf_counter()
        async with session.post(url, data=next(sent), headers=headers) as response:
            await response.read()
            response.raise_for_status()
        times.append(1000 * (time.perf_counter() - started))

    async def repeat(session: aiohttp.ClientSession, until: float) -> None:
        while time.perf_counter() < until:
            await send(session)

    async with aiohttp.ClientSession() as session:
        for _ in range(WARM_UP):
            await send(session)
        times.clear()
        until = time.perf_counter() + seconds
        await asyncio.gather(*(repeat(session, until) for _ in range(clients)))
    return times


def main(
    clients: Annotated[int, typer.Option(min=2, help="Number of simultaneous clients.")] = 16,
    seconds: Annotated[float, typer.Option(min=1, help="Seconds of each measurement.")] = 6,
) -> None:
    """Print latencies with one client, and latencies and requests per second with several."""
    rows = []
    with running_registry() as client:
        model = client.get("/models").raise_for_status().json()["models"][0]
        seeds = itertools.count()
        for body in itertools.islice(bodies("/register", model["dim"], model["id"], next(seeds)), ENROLLED):
            client.post("/register", content=body, headers={"content-type": "application/json"}).raise_for_status()
        for path in ("/search", "/register"):
            for number in (1, clients):
                sent = bodies(path, model["dim"], model["id"], next(seeds))
                times = asyncio.run(measure(client, path, sent, number, seconds))
                p50, p95 = statistics.median(times), statistics.quantiles(times, n=20)[-1]
                rows.append((path, number, f"{p50:.1f}", f"{p95:.1f}", f"{len(times) / seconds:.0f}"))
    typer.echo(table(("request", "clients", "p50 ms", "p95 ms", "requests/s"), rows))


if __name__ == "__main__":
    typer.run(main)
