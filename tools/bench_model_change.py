"""`python -m tools.bench_model_change`: measures model migration through the API, with both shipped embedders.

    python -m tools.bench_model_change --people 400

Registers portraits of 250 x 250 pixels one after another: without stored crops, with stored crops, and with a secondary
model. Then it migrates a collection to the other model, which re-embeds everybody from the crops, during searches.
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

OTHER_BUNDLE = "embedder-fairface"
POLL_S = 0.1
BASELINE_S = 3
CONSOLE = Console(width=110)


def portraits(count: int) -> list[str]:
    """Returns Base64 of different pictures of the demo's people, which are rotated, shifted and lit at random."""
    random = np.random.default_rng(0)
    photos = [Image.open(io.BytesIO(data)).convert("RGB") for data in small_photos()]
    pictures = []
    for number in range(count):
        right, down = (int(value) for value in random.integers(-15, 16, 2))
        rotated = photos[number % len(photos)].rotate(float(random.uniform(-8, 8)), translate=(right, down))
        lit = ImageEnhance.Brightness(rotated).enhance(float(random.uniform(0.7, 1.1)))
        file = io.BytesIO()
        lit.save(file, "JPEG", quality=92)
        pictures.append(base64.b64encode(file.getvalue()).decode())
    return pictures


def create_collection(client: httpx.Client, **settings: Any) -> str:
    """Creates a collection with a random name and returns the name."""
    name = f"bench-{uuid.uuid4().hex[:8]}"
    client.post("/collections", json={"name": name, **settings}).raise_for_status()
    return name


def register_ms(client: httpx.Client, collection: str, pictures: Sequence[str], title: str) -> float:
    """Registers every picture as a person; returns the median time in milliseconds."""
    times = []
    for number, picture in enumerate(track(pictures, title, console=CONSOLE)):
        started = time.perf_counter()
        body = {"label": f"p{number}", "images": [picture], "force": True}
        client.post("/register", params={"collection": collection}, json=body).raise_for_status()
        times.append(time.perf_counter() - started)
    return statistics.median(times) * 1000


class Searches:
    """Searches repeatedly in a thread during the block. `times`: milliseconds and model of each search."""

    def __init__(self, client: httpx.Client, collection: str, picture: str) -> None:
        self._client, self._collection, self._body = client, collection, {"image": picture}
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
            response = self._client.post("/search", params={"collection": self._collection}, json=self._body)
            milliseconds = (time.perf_counter() - started) * 1000
            self.times.append((milliseconds, response.raise_for_status().json()["model_id"]))


def migrate(client: httpx.Client, collection: str, model_id: str, picture: str) -> dict[str, Any]:
    """Migrates a collection to another model during searches; returns the measurements."""
    with Searches(client, collection, picture) as before:
        time.sleep(BASELINE_S)
    with Searches(client, collection, picture) as during:
        started = time.perf_counter()
        client.post(f"/collections/{collection}/model-migration", json={"model_id": model_id}).raise_for_status()
        while client.get(f"/collections/{collection}/model-migration").json()["model_id"] != model_id:
            time.sleep(POLL_S)
        seconds = time.perf_counter() - started
        time.sleep(1)
    return {
        "seconds": round(seconds, 1),
        "search_p50_ms_before": round(statistics.median(value for value, _ in before.times), 1),
        "search_p50_ms_during": round(statistics.median(value for value, _ in during.times), 1),
        "search_slowest_ms_during": round(max(value for value, _ in during.times), 1),
        "models_of_searches": sorted({model for _, model in during.times}),
    }


def measure(client: httpx.Client, other: str, people: int) -> dict[str, Any]:
    """Measures registration with and without crops and secondary model, and a migration to the other model."""
    pictures = portraits(people)
    plain, with_crops = create_collection(client), create_collection(client, store_crops=True)
    two_models = create_collection(client)
    secondary = {"model_id": other, "auto_activate": False}
    client.post(f"/collections/{two_models}/model-migration", json=secondary).raise_for_status()
    figures: dict[str, Any] = {
        "people": people,
        "register_ms": register_ms(client, plain, pictures, "no crops"),
        "register_ms_with_crops": register_ms(client, with_crops, pictures, "crops"),
        "register_ms_by_two_models": register_ms(client, two_models, pictures, "two models"),
    }
    scope = {"collection": with_crops}
    first = client.get("/identities", params={**scope, "limit": 1}).json()["identities"][0]["id"]
    export = client.get(f"/identities/{first}/export", params=scope).json()
    figures["crop_bytes"] = len(base64.b64decode(export["crops"][0]["image"]))
    figures |= migrate(client, with_crops, other, pictures[0])
    figures["re_embedded_per_s"] = round(people / figures["seconds"], 1)
    return figures


def main(
    people: Annotated[int, typer.Option(min=10, help="Number of people, each registered with one picture.")] = 400,
    output: Annotated[Path | None, typer.Option(help="JSON file for the measurements.")] = None,
) -> None:
    """Measure registration with crops and with a secondary model, and the migration of a collection."""
    os.environ["REGISTRY_EMBEDDER__ADDITIONAL_BUNDLES"] = json.dumps([OTHER_BUNDLE])
    with running_registry() as client:
        main_model, other = (model["id"] for model in client.get("/models").json()["models"])
        figures = measure(client, other, people)
    table = Table(title=f"From {main_model} to {other}, {people} people", title_justify="left")
    table.add_column("measurement")
    table.add_column("value", justify="right")
    for name, value in figures.items():
        table.add_row(name, f"{value:.1f}" if isinstance(value, float) else str(value))
    CONSOLE.print(table)
    if output is not None:
        output.write_text(json.dumps(figures, indent=2) + "\n")


if __name__ == "__main__":
    typer.run(main)
