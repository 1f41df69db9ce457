"""Attacks an own registry with costly requests, and measures other clients and the memory of the service meanwhile.

    python -m tools.attacks                        every attack, from two clients with two requests a second each
    python -m tools.attacks --attackers 4 --rate 0    four clients, each as fast as it gets answers

It starts a registry with an embedded PostgreSQL. The first rows show the same load with ordinary pictures. Compare the
ratio of the times, not the times, with other machines.
"""

import base64
import contextlib
import json
import statistics
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import httpx
import psutil
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from service.demo.photos import packaged_cast
from service.demo.server import running_registry
from tools.attacks.clients import JSON, clients
from tools.attacks.pictures import PICTURES, scaled

CONSOLE = Console(width=130)
VERIFICATIONS = 200
ADA = {"external_id": "ada"}


def verify_ms(client: httpx.Client, photo: str, count: int) -> tuple[float, float]:
    """Returns median and 95th percentile of the time of a verification in milliseconds."""
    times = []
    for _ in range(count):
        started = time.perf_counter()
        client.post("/verify", json=ADA | {"image": photo}).raise_for_status()
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times), statistics.quantiles(times, n=20)[-1]


@contextlib.contextmanager
def peak_memory(process: psutil.Process) -> Iterator[list[float]]:
    """Yields a list whose element is, after the block, the highest resident memory of the process in MB."""
    peak, stopped = [0.0], threading.Event()

    def watch() -> None:
        while not stopped.wait(0.005):
            peak[0] = max(peak[0], process.memory_info().rss / 1e6)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield peak
    finally:
        stopped.set()
        watcher.join()


def attack_bodies(client: httpx.Client, process: psutil.Process) -> Table:
    """Sends bodies that are costly to receive or parse."""
    table = Table("attack", "answers", "time, ms", "peak of the API, MB")
    brackets = b'{"images":[' + b"[]," * 11_000_000 + b"[]]}"
    large = b'{"label":"x","images":["' + b"A" * 30_000_000 + b'"]}'
    for name, body, count in (("33 MB of `[],`", brackets, 1), ("20 bodies of 30 MB at once", large, 20)):
        with peak_memory(process) as peak, ThreadPoolExecutor(count) as executor:
            started = time.perf_counter()
            sent = [executor.submit(client.post, "/register", content=body, headers=JSON) for _ in range(count)]
            codes = Counter(item.result().json().get("code", "accepted") for item in sent)
            milliseconds = 1000 * (time.perf_counter() - started)
        table.add_row(name, describe(codes), f"{milliseconds:.0f}", f"{peak[0]:.0f}")
    return table


def attack_pictures(client: httpx.Client, process: psutil.Process, photo: bytes, attackers: int, rate: float) -> Table:
    """Sends pictures that are costly to decode, and verifies meanwhile."""
    portrait = base64.b64encode(photo).decode()
    table = Table("attack", "bytes", "answers", "p50, ms", "p95, ms", "p95 / normal", "peak of the API, MB")
    verify_ms(client, portrait, 50)
    ordinary = {"an ordinary photo": lambda: photo, "an ordinary photo, 12 megapixels": lambda: scaled(photo, 4000)}
    for name, make in track((ordinary | PICTURES).items(), description="attacks", console=CONSOLE, transient=True):
        data = make()
        body = json.dumps({"label": "x", "images": [base64.b64encode(data).decode()]}).encode()
        _, normal = verify_ms(client, portrait, VERIFICATIONS)
        with peak_memory(process) as peak, clients(str(client.base_url), body, attackers, rate) as codes:
            median, slowest = verify_ms(client, portrait, VERIFICATIONS)
        figures = f"{median:.1f}", f"{slowest:.1f}", f"{slowest / normal:.2f}", f"{peak[0]:.0f}"
        table.add_row(name, f"{len(data):,}", describe(codes), *figures)
    return table


def describe(codes: Counter[str]) -> str:
    return ", ".join(f"{count} {code}" for code, count in codes.most_common())


def main(
    attackers: Annotated[int, typer.Option(min=1, help="Clients that attack at the same time.")] = 2,
    rate: Annotated[float, typer.Option(min=0, help="Requests per second of each; 0: as fast as possible.")] = 2,
) -> None:
    """Attack an own registry, and measure other clients meanwhile."""
    photo = packaged_cast().people[0].enrolled[0].read_bytes()
    with running_registry() as client:
        client.timeout = 120
        portrait = base64.b64encode(photo).decode()
        client.post("/register", json=ADA | {"images": [portrait]}).raise_for_status()
        port = client.base_url.port
        connections = (item for item in psutil.net_connections("tcp") if item.status == "LISTEN" and item.laddr)
        process = psutil.Process(next(item.pid for item in connections if item.laddr.port == port))
        CONSOLE.print(attack_pictures(client, process, photo, attackers, rate))
        CONSOLE.print(attack_bodies(client, process))


if __name__ == "__main__":
    typer.run(main)
