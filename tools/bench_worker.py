"""`python -m tools.bench_worker`: measures the overhead of a worker and the effect of batching, in one run.

    python -m tools.bench_worker                    on the CPU
    python -m tools.bench_worker --device cuda      on a GPU, with its utilisation

Compares the same engine in this process and in worker processes at 1, 4, 16 and 64 concurrent requests: times, pictures
per second, and pictures per batch.
"""

import asyncio
import os
import re
import secrets
import shutil
import socket
import statistics
import subprocess
import sys
import time
from typing import Annotated

import httpx
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from service.inference.bundle import read_embedder
from service.inference.engine import HostedEngine, Picture
from service.runtime.engines import build_local, build_remote
from service.runtime.settings import load_settings
from tools.bench import small_photos

CLIENTS = (1, 4, 16, 64)
CONSOLE = Console(width=120)


def main(
    seconds: Annotated[float, typer.Option(help="Duration of each measurement.")] = 5.0,
    device: Annotated[str, typer.Option(help="cpu or cuda.")] = "cpu",
    workers: Annotated[int, typer.Option(help="Number of worker processes.")] = 1,
) -> None:
    """Print times, pictures per second and batch sizes of an engine in this process and in workers."""
    os.environ["REGISTRY_INFERENCE__DEVICE"] = device
    os.environ["REGISTRY_INFERENCE__WORKER_TOKEN"] = secrets.token_hex(16)
    os.environ["REGISTRY_INFERENCE__MAX_QUEUED"] = "256"
    ports = [_free_port() for _ in range(workers)]
    processes = [
        subprocess.Popen([sys.executable, "-m", "service", "worker", "--port", str(port)], stderr=subprocess.DEVNULL)
        for port in ports
    ]
    try:
        asyncio.run(_compare(seconds, ports, device))
    finally:
        for process in processes:
            process.terminate()
            process.wait()


async def _compare(seconds: float, ports: list[int], device: str) -> None:
    urls = [f"http://127.0.0.1:{port}" for port in ports]
    settings = load_settings(inference={"worker_url": ",".join(urls)})
    remote = build_remote(settings, [read_embedder(settings.embedder.bundle)])
    local: HostedEngine = build_local(settings)
    await local.start()
    await remote.start()
    while remote.problem is not None:  # noqa: ASYNC110  the engine has no public event for it
        await asyncio.sleep(0.1)
    table = Table(title=f"A picture of 250 x 250, {device}", title_justify="left")
    for name in ("engine", "clients", "p50 ms", "p95 ms", "pictures/s", "pictures per batch", "GPU utilisation"):
        table.add_column(name, justify="left" if name == "engine" else "right")
    engines = {"in this process": local, f"{len(ports)} worker{'s' * (len(ports) > 1)}": remote}
    for clients in track(CLIENTS, description="measuring", console=CONSOLE, transient=True):
        # The engines alternate, so that other load on the machine affects both.
        for name, engine in engines.items():
            before = await _batches(urls)
            utilisation = asyncio.create_task(_gpu_utilisation(seconds)) if device == "cuda" else None
            times = await _observe_repeatedly(engine, clients, seconds)
            after = await _batches(urls)
            batches = after[0] - before[0]
            per_batch = f"{(after[1] - before[1]) / batches:.1f}" if batches else ""
            table.add_row(
                name,
                str(clients),
                f"{statistics.median(times) * 1000:.1f}",
                f"{statistics.quantiles(times, n=20)[-1] * 1000:.1f}",
                f"{len(times) / seconds:.1f}",
                per_batch,
                "" if utilisation is None else f"{await utilisation:.0f} %",
            )
    CONSOLE.print(table)
    await remote.stop()
    await local.stop()


async def _observe_repeatedly(engine: HostedEngine, clients: int, seconds: float) -> list[float]:
    """Observes pictures with several concurrent clients; returns the seconds of each request."""
    photos = [Picture(data) for data in small_photos()]
    for photo in photos:
        await engine.observe([photo])
    times: list[float] = []
    deadline = time.perf_counter() + seconds

    async def client(number: int) -> None:
        while (started := time.perf_counter()) < deadline:
            await engine.observe([photos[number % len(photos)]])
            times.append(time.perf_counter() - started)

    await asyncio.gather(*(client(number) for number in range(clients)))
    return times


async def _batches(urls: list[str]) -> tuple[float, float]:
    """Returns the numbers of batches and pictures that all workers have run so far."""
    counts = [0.0, 0.0]
    async with httpx.AsyncClient() as client:
        for url in urls:
            text = (await client.get(f"{url}/metrics")).text
            for index, name in enumerate(("count", "sum")):
                match = re.search(rf"^registry_batch_pictures_{name} (\S+)", text, re.MULTILINE)
                counts[index] += float(match.group(1)) if match else 0
    return counts[0], counts[1]


async def _gpu_utilisation(seconds: float) -> float:
    """Returns the mean utilisation in percent that nvidia-smi reports; NaN without nvidia-smi."""
    if not (program := shutil.which("nvidia-smi")):
        return float("nan")
    readings = []
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        query = [program, "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits"]
        process = await asyncio.create_subprocess_exec(*query, stdout=subprocess.PIPE)
        output, _ = await process.communicate()
        readings.append(float(output.split()[0]))
        await asyncio.sleep(0.2)
    return statistics.mean(readings)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


if __name__ == "__main__":
    typer.run(main)
