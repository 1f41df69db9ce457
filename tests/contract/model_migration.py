"""Sends the requests of the tests of model migration, and names their three models."""

import time
import uuid
from collections.abc import Callable
from typing import Any

import httpx

from service.inference.bundle import read_embedder
from service.runtime.settings import BUNDLES
from tests.photos import COLLINS, HOPPER, b64, brighter

FIRST_MODEL, UNCORRECTED_MODEL = (manifest.model_id for manifest in read_embedder(BUNDLES / "embedder").models)
"""The shipped embedder, of 128 dimensions, with and without its cohort."""
SECOND_MODEL = "rotated-160"
SAME_DIM_MODEL = "rotated-128"
"""Has the dimension of FIRST_MODEL, but its embeddings are not comparable with those of FIRST_MODEL."""
KEY = "the key for the crops of the tests, long enough"


def create_collection(client: httpx.Client, **policies: Any) -> str:
    """Creates a collection with the policies and returns its name."""
    name = f"test-{uuid.uuid4().hex[:12]}"
    response = client.post("/collections", json={"name": name, **policies})
    assert response.status_code == 201, response.text
    return name


def register(client: httpx.Client, name: str, label: str, *pictures: bytes, **fields: Any) -> dict[str, Any]:
    """Enrols pictures under a label and returns the body of the response."""
    body = {"label": label, "images": [b64(picture) for picture in pictures], **fields}
    response = client.post("/register", params={"collection": name}, json=body)
    assert response.is_success, response.text
    return response.json()


def search_for(client: httpx.Client, name: str, picture: bytes, **fields: Any) -> dict[str, Any]:
    """Searches for the face of a picture and returns the body of the response."""
    response = client.post("/search", params={"collection": name}, json={"image": b64(picture), **fields})
    assert response.status_code == 200, response.text
    return response.json()


def best_candidate(search: dict[str, Any]) -> dict[str, Any]:
    """Returns the first candidate of the first face of a search."""
    return search["results"][0]["candidates"][0]


def start_migration(client: httpx.Client, name: str, model_id: str = SECOND_MODEL, **fields: Any) -> httpx.Response:
    return client.post(f"/collections/{name}/model-migration", json={"model_id": model_id, **fields})


def migration(client: httpx.Client, name: str) -> dict[str, Any]:
    """Returns the state of the model migration of a collection."""
    response = client.get(f"/collections/{name}/model-migration")
    assert response.status_code == 200, response.text
    return response.json()


def wait_for_migration(
    client: httpx.Client, name: str, condition: Callable[[dict[str, Any]], bool], seconds: float = 60
) -> dict[str, Any]:
    """Waits until the state of the migration meets the condition, and returns the state."""
    deadline = time.monotonic() + seconds
    while not condition(state := migration(client, name)):
        assert time.monotonic() < deadline, state
        time.sleep(0.1)
    return state


def job_finished(state: dict[str, Any]) -> bool:
    return state["job"] is not None and state["job"]["finished_at"] is not None


def generate_pictures(count: int) -> dict[str, bytes]:
    """Returns count pictures by label: two photos in different brightness. Each is most similar to itself."""
    photos = (COLLINS, HOPPER)
    return {f"p{number}": brighter(photos[number % 2], 0.6 + 0.04 * (number // 2)) for number in range(count)}
