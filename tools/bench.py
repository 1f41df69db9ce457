"""`make bench`: measures a request beside its parts in one run.

Times are medians on this machine; compare the ratios, not the times, with other machines.
"""

import base64
import contextlib
import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Literal

import cv2
import httpx
import numpy as np
import typer
from rich.console import Console
from rich.progress import track
from rich.table import Table

from service.demo.photos import packaged_cast
from service.demo.server import running_registry
from service.inference.calibration import Precision
from service.inference.graph import RuntimeOptions, open_graph
from service.runtime.settings import BUNDLES
from service.vision.image import ImageLimits, decode

FACES = {0: (148, 20, 322, 194), 1: (130, 80, 430, 380)}
"""Boxes in pixels of the faces in two of the demo's pictures, with as much margin as pictures of LFW have."""
WARM_UP, VERIFICATIONS = 20, 100
CLIENTS = 4
RUNTIMES = (("onnxruntime", "f32"), ("openvino", "f32"), ("openvino", "bf16"))
SERVED: Sequence[tuple[str, str, int, Precision | Literal["auto"]]] = (
    ("detector", "first-look.onnx", 192, "auto"),
    ("detector", "model.onnx", 320, "auto"),
    ("detector", "model.onnx", 640, "auto"),
    ("detector", "landmarks.onnx", 96, "auto"),
    ("embedder", "model.onnx", 112, "f32"),
)
"""Bundle, file, input size in pixels and precision of each graph. The detector runs in bf16 where the processor
supports it, the embedder in f32."""
CONSOLE = Console(width=110)


def small_photos() -> list[bytes]:
    """Returns two portraits of 250 x 250 pixels as JPEG."""
    photos = []
    for person, (x0, y0, x1, y1) in FACES.items():
        path = packaged_cast().people[person].enrolled[0]
        crop = decode(path.read_bytes(), ImageLimits())[y0:y1, x0:x1, ::-1]
        photos.append(cv2.imencode(".jpg", cv2.resize(crop, (250, 250)))[1].tobytes())
    return photos


def median_ms(run: Callable[[], object], repeats: int = 40) -> float:
    """Returns the median time of a call in milliseconds, after five calls that do not count."""
    for _ in range(5):
        run()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def bench_graphs() -> float:
    """Prints the time of each graph on each runtime; returns the milliseconds of the graphs of one verification."""
    table = Table(title="Graphs alone, median ms of a batch of one", title_justify="left")
    for name in ("graph", "threads", "ONNX Runtime f32", "OpenVINO f32", "OpenVINO bf16"):
        table.add_column(name, justify="right" if name != "graph" else "left")
    graphs_ms = 0.0
    for bundle, file, size, precision in track(SERVED, description="graphs", console=CONSOLE, transient=True):
        path = BUNDLES / bundle / file
        pixels = np.random.default_rng(0).random((1, 3, size, size), np.float32)
        for threads in (1, 2):
            row = []
            for backend, tested in RUNTIMES:
                graph = open_graph(path, size, RuntimeOptions(backend, tested, threads))  # type: ignore[arg-type]
                row.append(median_ms(partial(graph.run, pixels)))
            table.add_row(f"{bundle}, {file}, {size} px", str(threads), *(f"{value:.1f}" for value in row))
        if size < 320:  # A verification of two portraits ends with the first look at each.
            graph = open_graph(path, size, RuntimeOptions(precision=precision))
            graphs_ms += 2 * median_ms(partial(graph.run, pixels))
    CONSOLE.print(table)
    return graphs_ms


def bench_verify(client: httpx.Client, graphs_ms: float) -> None:
    """Prints the time of POST /verify, also relative to `graphs_ms`, the milliseconds of its graphs."""
    first, second = (base64.b64encode(photo).decode() for photo in small_photos())
    body = {"image_a": first, "image_b": second}
    times = []
    for _ in range(WARM_UP + VERIFICATIONS):
        started = time.perf_counter()
        client.post("/verify", json=body).raise_for_status()
        times.append((time.perf_counter() - started) * 1000)
    times = sorted(times[WARM_UP:])
    CONSOLE.print(
        f"POST /verify, two 250 x 250 photos: p50 {times[50]:.1f} ms, p95 {times[95]:.1f} ms; "
        f"the graphs alone {graphs_ms:.1f} ms, so p50 is {times[50] / graphs_ms:.2f} times as long"
    )


def bench_health(client: httpx.Client, seconds: float = 8.0) -> None:
    """Prints the time of GET /healthz while four clients send searches."""
    image = base64.b64encode(packaged_cast().people[0].enrolled[0].read_bytes()).decode()
    stop = threading.Event()
    searches = [0] * CLIENTS

    def search(client_number: int) -> None:
        with httpx.Client(base_url=client.base_url, timeout=60) as own:
            while not stop.is_set():
                own.post("/search", json={"image": image}).raise_for_status()
                searches[client_number] += 1

    threads = [threading.Thread(target=search, args=(number,)) for number in range(CLIENTS)]
    for thread in threads:
        thread.start()
    times = []
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        before = time.perf_counter()
        client.get("/healthz").raise_for_status()
        times.append((time.perf_counter() - before) * 1000)
        time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    times.sort()
    CONSOLE.print(
        f"GET /healthz during {sum(searches) / seconds:.1f} searches/s by {CLIENTS} clients: "
        f"p50 {times[len(times) // 2]:.1f} ms, p95 {times[int(len(times) * 0.95)]:.1f} ms, "
        f"p99 {times[int(len(times) * 0.99)]:.1f} ms of {len(times)}"
    )


def main() -> None:
    """Measure graphs, POST /verify, and GET /healthz under load, and print the results."""
    CONSOLE.print(f"{os.cpu_count()} cores")
    graphs_ms = bench_graphs()
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(running_registry())
        CONSOLE.print(f"from process start to /readyz with a new data folder: {time.perf_counter() - started:.1f} s")
        bench_verify(client, graphs_ms)
        bench_health(client)


if __name__ == "__main__":
    typer.run(main)
