"""What it costs to be able to change a collection's model, and to change it, through the API with both shipped models.

    python -m tools.bench_model_change --people 400

Portraits of 250 x 250 pixels are registered one after another: without crops, with crops, and with a second model
standing by; then everybody is re-embedded from crops while searches go on.
"""

import base64
import io
import json
import os
import statistics
import threading
import time
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import typer
from PIL import Image, ImageEnhance
from rich.console import Console
from rich.progress import track
from rich.table import Table

from service.demo.server import running_registry
from tools.bench import small_photos

OTHER = "embedder-fairface"
POLL_S = 0.1
CONSOLE = Console(width=110)


def portraits(count: int) -> list[str]:
    """Different pictures of the demo's people: shifted and lit otherwise."""
    random = np.random.default_rng(0)
    photos = [Image.open(io.BytesIO(data)).convert("RGB") for data in small_photos()]
    made = []
    for number in range(count):
        shift = tuple(int(value) for value in random.integers(-15, 16, 2))
        turned = photos[number % len(photos)].rotate(float(random.uniform(-8, 8)), translate=shift)
        lit = ImageEnhance.Brightness(turned).enhance(float(random.uniform(0.7, 1.1)))
        file = io.BytesIO()
        lit.save(file, "JPEG", quality=92)
        made.append(base64.b64encode(file.getvalue()).decode())
    return made


def collection(client: httpx.Client, **rules: Any) -> str:
    name = f"bench-{uuid.uuid4().hex[:8]}"
    client.post("/collections", json={"name": name, **rules}).raise_for_status()
    return name


def register_ms(client: httpx.Client, name: str, pictures: Sequence[str], words: str) -> float:
    """Median milliseconds of a registration."""
    times = []
    for number, picture in enumerate(track(pictures, words, console=CONSOLE)):
        started = time.perf_counter()
        body = {"collection": name, "label": f"p{number}", "images": [picture], "force": True}
        client.post("/register", json=body).raise_for_status()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


class Searches:
    """Searches one after another until it is told to stop; its times in milliseconds, and by which model."""

    def __init__(self, client: httpx.Client, name: str, picture: str) -> None:
        self._client, self._body = client, {"collection": name, "image": picture}
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.times: list[tuple[float, str]] = []

    def __enter__(self) -> "Searches":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.is_set():
            started = time.perf_counter()
            answer = self._client.post("/search", json=self._body).raise_for_status().json()
            self.times.append(((time.perf_counter() - started) * 1000, answer["model_id"]))


def change(client: httpx.Client, name: str, model_id: str, picture: str) -> dict[str, Any]:
    """Re-embed everybody with searches going on, until the other model is active."""
    with Searches(client, name, picture) as quiet:
        time.sleep(3)
    with Searches(client, name, picture) as meanwhile:
        started = time.perf_counter()
        client.post(f"/collections/{name}/model-migration", json={"model_id": model_id}).raise_for_status()
        while client.get(f"/collections/{name}/model-migration").json()["model_id"] != model_id:
            time.sleep(POLL_S)
        seconds = time.perf_counter() - started
        time.sleep(1)
    return {
        "seconds": round(seconds, 1),
        "search_p50_ms_before": round(statistics.median(value for value, _ in quiet.times), 1),
        "search_p50_ms_meanwhile": round(statistics.median(value for value, _ in meanwhile.times), 1),
        "search_slowest_ms_meanwhile": round(max(value for value, _ in meanwhile.times), 1),
        "searched_by": sorted({model for _, model in meanwhile.times}),
    }


def main(
    people: Annotated[int, typer.Option(min=10, help="Who are registered, each with one picture.")] = 400,
    output: Annotated[Path | None, typer.Option(help="JSON file for the figures.")] = None,
) -> None:
    """Registration with crops and with a second model, and the change of the model."""
    os.environ["REGISTRY_EMBEDDER__ADDITIONAL_BUNDLES"] = json.dumps([OTHER])
    pictures = portraits(people)
    with running_registry() as client:
        own, other = (model["id"] for model in client.get("/models").json()["models"])
        plain, kept, double = collection(client), collection(client, store_crops=True), collection(client)
        client.post(f"/collections/{double}/model-migration", json={"model_id": other, "activate": False}).raise_for_status()
        figures: dict[str, Any] = {
            "people": people,
            "register_ms": register_ms(client, plain, pictures, "no crops"),
            "register_ms_with_crops": register_ms(client, kept, pictures, "crops"),
            "register_ms_by_two_models": register_ms(client, double, pictures, "two models"),
        }
        first = client.get("/identities", params={"collection": kept, "limit": 1}).json()["identities"][0]["id"]
        held = client.get(f"/identities/{first}/export", params={"collection": kept}).json()
        figures["crop_bytes"] = len(base64.b64decode(held["crops"][0]["image"]))
        figures |= change(client, kept, other, pictures[0])
    figures["re_embedded_per_s"] = round(people / figures["seconds"], 1)
    table = Table(title=f"From {own} to {other}, {people} people", title_justify="left")
    table.add_column("figure")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:.1f}" if isinstance(value, float) else str(value))
    CONSOLE.print(table)
    if output is not None:
        output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
