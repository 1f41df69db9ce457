"""`make bench`: what a request costs, next to its parts, measured side by side in one run.

    make bench                        the service alone
    make bench YUNET=yunet.onnx       with OpenCV's YuNet as the peer of the detector

Times are medians on this machine and mean little elsewhere; the ratios are what to compare.
"""

import base64
import contextlib
import os
import statistics
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Annotated, Literal

import cv2
import httpx
import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from service.demo.photos import packaged_cast
from service.demo.server import running_registry
from service.inference.bundle import Precision
from service.inference.graph import RuntimeOptions, open_graph
from service.runtime.settings import BUNDLES
from service.vision.image import ImageLimits, Pixels, decode

FACES = {0: (148, 20, 322, 194), 1: (130, 80, 430, 380)}
"""Where the faces are in two of the demo's pictures, with room around them as in LFW."""
CONSOLE = Console(width=110)


def small_photos() -> list[bytes]:
    """Two portraits of 250 x 250 pixels, as JPEG."""
    photos = []
    for person, (x0, y0, x1, y1) in FACES.items():
        path = packaged_cast().people[person].enrolled[0]
        crop = decode(path.read_bytes(), ImageLimits())[y0:y1, x0:x1, ::-1]
        photos.append(cv2.imencode(".jpg", cv2.resize(crop, (250, 250)))[1].tobytes())
    return photos


def median_ms(run: Callable[[], object], repeats: int = 40) -> float:
    for _ in range(5):
        run()
    times = []
    for _ in range(repeats):
        started = time.perf_counter()
        run()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


def bench_graphs() -> float:
    """Each graph on each runtime; the milliseconds that one verification's graphs need by themselves."""
    table = Table(title="Graphs alone, median ms of a batch of one", title_justify="left")
    for name in ("graph", "threads", "ONNX Runtime f32", "OpenVINO f32", "OpenVINO bf16"):
        table.add_column(name, justify="right" if name != "graph" else "left")
    floor = 0.0
    # The detector runs in bf16 where the processor has it natively, the embedder in f32.
    served: Sequence[tuple[str, str, int, Precision | Literal["auto"]]] = (
        ("detector", "model.onnx", 320, "auto"),
        ("detector", "model.onnx", 640, "auto"),
        ("detector", "landmarks.onnx", 96, "auto"),
        ("embedder", "model.onnx", 112, "f32"),
    )
    for bundle, file, size, as_served in served:
        path = BUNDLES / bundle / file
        pixels = np.random.default_rng(0).random((1, 3, size, size), np.float32)
        for threads in (1, 2):
            row = []
            for backend, precision in (("onnxruntime", "f32"), ("openvino", "f32"), ("openvino", "bf16")):
                graph = open_graph(path, size, RuntimeOptions(backend, precision, threads))  # type: ignore[arg-type]
                row.append(median_ms(partial(graph.run, pixels)))
            table.add_row(f"{bundle}, {file}, {size} px", str(threads), *(f"{value:.1f}" for value in row))
        if size != 640:  # two pictures of 320 px at most
            floor += 2 * median_ms(partial(open_graph(path, size, RuntimeOptions(precision=as_served)).run, pixels))
    CONSOLE.print(table)
    return floor


def bench_verify(client: httpx.Client, floor: float) -> None:
    first, second = (base64.b64encode(photo).decode() for photo in small_photos())
    body = {"image_a": first, "image_b": second}
    times = []
    for _ in range(120):
        started = time.perf_counter()
        assert client.post("/verify", json=body).status_code == 200
        times.append((time.perf_counter() - started) * 1000)
    times = sorted(times[20:])
    CONSOLE.print(
        f"POST /verify, two 250 x 250 photos: p50 {times[50]:.1f} ms, p95 {times[95]:.1f} ms; "
        f"the graphs alone {floor:.1f} ms, so p50 is {times[50] / floor:.2f} times the floor"
    )


def bench_health(client: httpx.Client, seconds: float = 8.0) -> None:
    """/healthz while four clients keep the engine busy."""
    image = base64.b64encode(packaged_cast().people[0].enrolled[0].read_bytes()).decode()
    stop = threading.Event()
    searched = [0] * 4

    def keep_searching(slot: int) -> None:
        with httpx.Client(base_url=client.base_url, timeout=60) as own:
            while not stop.is_set():
                own.post("/search", json={"image": image})
                searched[slot] += 1

    threads = [threading.Thread(target=keep_searching, args=(slot,)) for slot in range(4)]
    for thread in threads:
        thread.start()
    times = []
    started = time.perf_counter()
    while time.perf_counter() - started < seconds:
        before = time.perf_counter()
        client.get("/healthz")
        times.append((time.perf_counter() - before) * 1000)
        time.sleep(0.01)
    stop.set()
    for thread in threads:
        thread.join()
    times.sort()
    CONSOLE.print(
        f"GET /healthz meanwhile ({sum(searched) / seconds:.1f} searches/s by 4 clients): "
        f"p50 {times[len(times) // 2]:.1f} ms, p95 {times[int(len(times) * 0.95)]:.1f} ms, "
        f"p99 {times[int(len(times) * 0.99)]:.1f} ms of {len(times)}"
    )


def bench_yunet(yunet: Path, pictures: list[Pixels]) -> None:
    from service.inference.detector import YoloFaceDetector

    table = Table(title="Detector with everything around the graph, median ms a picture", title_justify="left")
    for name in ("picture", "ours", "YuNet", "ratio"):
        table.add_column(name, justify="right" if name != "picture" else "left")
    ours = YoloFaceDetector(BUNDLES / "detector", RuntimeOptions())
    cv2.setNumThreads(2)
    for picture in pictures:
        peer = cv2.FaceDetectorYN.create(str(yunet), "", (picture.shape[1], picture.shape[0]), 0.6)
        bgr = np.ascontiguousarray(picture[..., ::-1])
        mine = median_ms(partial(ours.detect, [picture]), 20)
        theirs = median_ms(partial(peer.detect, bgr), 20)
        size = f"{picture.shape[1]} x {picture.shape[0]}"
        table.add_row(size, f"{mine:.1f}", f"{theirs:.1f}", f"{mine / theirs:.2f}")
    CONSOLE.print(table)


def main(yunet: Annotated[Path | None, typer.Option(help="YuNet's ONNX file.")] = None) -> None:
    """Measure and print."""
    CONSOLE.print(f"{os.cpu_count()} cores")
    floor = bench_graphs()
    if yunet is not None:
        photos = [path.read_bytes() for person in packaged_cast().people for path in person.enrolled]
        bench_yunet(yunet, [decode(data, ImageLimits()) for data in [small_photos()[0], *photos]])
    started = time.perf_counter()
    with contextlib.ExitStack() as stack:
        client = stack.enter_context(running_registry())
        CONSOLE.print(f"from process start to /readyz with a new data folder: {time.perf_counter() - started:.1f} s")
        bench_verify(client, floor)
        bench_health(client)


if __name__ == "__main__":
    typer.run(main)
