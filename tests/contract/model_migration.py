"""Requests of the tests of model migration, and the ids of their three models."""

import time
import uuid
from typing import Any

import httpx

from service.inference.bundle import read_embedder
from service.runtime.settings import BUNDLES
from tests.photos import b64

FIRST_MODEL, SAME_DIM_MODEL, SECOND_MODEL = read_embedder(BUNDLES / "embedder").model_id, "turned-128", "turned-160"
KEY = "the key for the crops of the tests, long enough"


def create_collection(client: httpx.Client, **rules: Any) -> str:
    name = f"test-{uuid.uuid4().hex[:12]}"
    response = client.post("/collections", json={"name": name, **rules})
    assert response.status_code == 201, response.text
    return name


def register(client: httpx.Client, name: str, label: str, *pictures: bytes, **more: Any) -> dict[str, Any]:
    body = {"label": label, "images": [b64(picture) for picture in pictures], **more}
    response = client.post("/register", params={"collection": name}, json=body)
    assert response.is_success, response.text
    return response.json()


def search_for(client: httpx.Client, name: str, picture: bytes, **more: Any) -> dict[str, Any]:
    response = client.post("/search", params={"collection": name}, json={"image": b64(picture), **more})
    assert response.status_code == 200, response.text
    return response.json()


def best_candidate(response: dict[str, Any]) -> dict[str, Any]:
    return response["results"][0]["candidates"][0]


def start_migration(client: httpx.Client, name: str, model_id: str = SECOND_MODEL, **more: Any) -> httpx.Response:
    return client.post(f"/collections/{name}/model-migration", json={"model_id": model_id, **more})


def migration(client: httpx.Client, name: str) -> dict[str, Any]:
    response = client.get(f"/collections/{name}/model-migration")
    assert response.status_code == 200, response.text
    return response.json()


def wait_for_migration(client: httpx.Client, name: str, condition: Any, seconds: float = 60) -> dict[str, Any]:
    deadline = time.monotonic() + seconds
    while not condition(view := migration(client, name)):
        assert time.monotonic() < deadline, view
        time.sleep(0.1)
    return view


def job_finished(view: dict[str, Any]) -> bool:
    return view["job"] is not None and view["job"]["finished_at"] is not None
