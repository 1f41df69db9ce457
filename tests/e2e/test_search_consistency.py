"""Several API processes on one database: each search sees every change that another process has acknowledged."""

import base64
import json
import threading
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import sqlalchemy as sa

from service.gallery.people.collections import Collection
from service.inference.bundle import read_embedder
from service.runtime.settings import BUNDLES
from tests.bundles import write_rotated_embedder
from tools.bulk_load import copy_people
from tools.service_processes import ServiceProcess, answers, free_port, running

PROCESSES, THREADS, ROUNDS, ACTIVATIONS = 3, 6, 30, 12
SECOND = "second-model"
SECOND_ROWS = {
    "template": "collection_id, identity_id, dim, embedding, source_sha256, box, detection_score, model_id, "
    "template.id",
    "centroid": "collection_id, identity_id, dim, embedding, template_count, code, model_id",
}
"""Columns that are copied for the second model."""
PEOPLE = 6_000
"""More than `planning.CODES_FROM`, so that searches use an index in memory."""


@pytest.fixture
def origins(postgres_url: str, tmp_path: Path) -> Iterator[list[str]]:
    second = write_rotated_embedder(tmp_path / SECOND, 128, SECOND)
    processes, addresses = [], []
    for number in range(PROCESSES):
        port = free_port()
        origin = f"http://127.0.0.1:{port}"
        environment = {
            "REGISTRY_DATA_DIR": str(tmp_path / f"data-{number}"),
            "REGISTRY_DATABASE__URL": postgres_url,
            "REGISTRY_SERVER__ALLOW_UNAUTHENTICATED": "true",  # behind a proxy too
            "REGISTRY_INFERENCE__THREADS": "1",
            "REGISTRY_INFERENCE__DECODERS": "1",
            "REGISTRY_EMBEDDER__ADDITIONAL_BUNDLES": json.dumps([str(second)]),
        }
        command = ["serve", "--port", str(port)]
        log = tmp_path / f"serve-{number}.log"
        processes.append(
            ServiceProcess(
                f"API {number}", command, environment, log, lambda origin=origin: answers(f"{origin}/readyz")
            )
        )
        addresses.append(origin)
    with running(processes):
        yield addresses


class Gallery:
    """A collection with people who stay, and another one; people are added to both through the API processes."""

    def __init__(self, origins: list[str], postgres_url: str) -> None:
        self.clients = [httpx.Client(base_url=origin, timeout=30) for origin in origins]
        self.model = read_embedder(BUNDLES / "embedder")
        self.name, self.other = (f"large-{uuid.uuid4().hex[:8]}" for _ in range(2))
        people = self.random(np.random.default_rng(1), 2 * PEOPLE)
        for name, part in zip((self.name, self.other), np.split(people, 2), strict=True):
            settings = {"name": name, "quality": "off", "additions": "any"}
            assert self.clients[0].post("/collections", json=settings).status_code == 201
            ids = [uuid.uuid4() for _ in part]
            copy_people(postgres_url, self._read(postgres_url, name), ids, part, "", self.model.model_id)

    def close(self) -> None:
        for client in self.clients:
            client.close()

    def random(self, random: np.random.Generator, count: int) -> np.ndarray:
        vectors = random.normal(size=(count, self.model.embedding_dim)).astype(np.float32)
        return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)

    def register(self, process: int, external_id: str, embedding: np.ndarray, model_id: str | None = None) -> str:
        model_id = model_id or self.model.model_id
        body = {"external_id": external_id, "embeddings": [_text(embedding)], "model_id": model_id}
        return str(self._post(process, "/register", self.name, body)["identity_id"])

    def search(
        self, process: int, embedding: np.ndarray, collection: str | None = None, model_id: str | None = None
    ) -> dict[str, Any]:
        model_id = model_id or self.model.model_id
        body = {"embedding": _text(embedding), "model_id": model_id, "threshold": 0.5, "top_k": 5}
        return self._post(process, "/search", collection or self.name, body)

    def start_migration(self, postgres_url: str) -> None:
        """Starts a migration to the second model, under which everybody has the same embedding."""
        engine = sa.create_engine(postgres_url)
        scope = {"name": self.name, "model": SECOND}
        with engine.begin() as connection:
            for table, columns in SECOND_ROWS.items():
                values = columns.replace("model_id", ":model").replace("template.id", "gen_random_uuid()")
                query = (
                    f"INSERT INTO {table} ({columns.replace('template.id', 'id')}) SELECT {values} FROM {table} "
                    "WHERE collection_id = (SELECT id FROM collection WHERE name = :name)"
                )
                connection.execute(sa.text(query), scope)
        engine.dispose()
        body = {"model_id": SECOND, "auto_activate": False}
        response = self.clients[0].post(f"/collections/{self.name}/model-migration", json=body)
        assert response.status_code == 202, response.text

    def activate(self, process: int, model_id: str) -> None:
        address = f"/collections/{self.name}/model-migration/activate"
        response = self.clients[process].post(address, json={"model_id": model_id, "force": True})
        assert response.status_code == 200, response.text

    def merge(self, process: int, target: str, source: str) -> None:
        self._post(process, f"/identities/{target}/merge", self.name, {"identities": [source]})

    def move(self, process: int, identity_id: str) -> None:
        self._post(process, f"/identities/{identity_id}/move", self.name, {"to": self.other})

    def erase(self, process: int, identity_id: str) -> None:
        response = self.clients[process].delete(f"/identities/{identity_id}", params={"collection": self.name})
        assert response.status_code == 200, response.text

    def _post(self, process: int, path: str, collection: str, body: dict[str, Any]) -> dict[str, Any]:
        response = self.clients[process].post(path, params={"collection": collection}, json=body)
        assert response.status_code in {200, 201}, response.text
        document: dict[str, Any] = response.json()
        return document

    def _read(self, postgres_url: str, name: str) -> Collection:
        engine = sa.create_engine(postgres_url)
        columns = "id, name, model_id, fmr, fpir, quality, duplicates, created_at"
        with engine.connect() as connection:
            query = sa.text(f"SELECT {columns} FROM collection WHERE name = :name")
            row = connection.execute(query, {"name": name}).one()
        engine.dispose()
        return Collection(*row)


@pytest.mark.timeout(300)
def test_every_process_sees_every_acknowledged_change(origins: list[str], postgres_url: str) -> None:
    with closing(Gallery(origins, postgres_url)) as gallery:
        _require_consistency(gallery)


@pytest.mark.timeout(300)
def test_every_process_sees_an_activated_model(origins: list[str], postgres_url: str) -> None:
    """Between activations people are registered under the active model only, and found by every process."""
    with closing(Gallery(origins, postgres_url)) as gallery:
        gallery.start_migration(postgres_url)
        random, plans, registered = np.random.default_rng(3), list[str](), dict[str, tuple[str, np.ndarray]]()
        for number in range(ACTIVATIONS):
            first, second, third = random.permutation(PROCESSES)
            active = SECOND if number % 2 == 0 else gallery.model.model_id
            gallery.activate(first, active)
            for index in range(5):
                name, embedding = f"m{number}-{index}", gallery.random(random, 1)[0]
                gallery.register(second, name, embedding, active)
                registered[name] = active, embedding
            for name, (model_id, embedding) in registered.items():
                answer = gallery.search(third, embedding, model_id=active)
                plans.append(answer["plan"])
                best = answer["results"][0]["candidates"][0]
                assert (best["external_id"] == name) is best["match"] is (model_id == active)
    assert plans.count("in-memory") > len(plans) / 2


def _require_consistency(gallery: Gallery) -> None:
    probe = gallery.random(np.random.default_rng(2), 1)[0]
    for collection in (gallery.name, gallery.other):
        for process in range(PROCESSES):
            wait = threading.Event()
            while gallery.search(process, probe, collection)["plan"] != "in-memory":
                wait.wait(0.1)
    with ThreadPoolExecutor(THREADS) as threads:
        plans = [
            plan
            for plans in threads.map(lambda seed: _change_and_search(gallery, seed), range(THREADS))
            for plan in plans
        ]
    assert len(plans) >= THREADS * ROUNDS * 5
    assert plans.count("in-memory") > 0.95 * len(plans)


def _change_and_search(gallery: Gallery, seed: int) -> list[str]:
    """Changes identities through one process and searches for them through others. Returns the plans."""
    random = np.random.default_rng(100 + seed)
    plans: list[str] = []

    def best(process: int, embedding: np.ndarray, collection: str | None = None) -> tuple[str, list[str]]:
        answer = gallery.search(process, embedding, collection)
        plans.append(answer["plan"])
        candidates = answer["results"][0]["candidates"]
        assert candidates
        return candidates[0]["external_id"], [candidate["identity_id"] for candidate in candidates]

    for number in range(ROUNDS):
        first, second, third = random.permutation(PROCESSES)
        name, embeddings = f"t{seed}-{number}", gallery.random(random, 3)
        created = gallery.register(first, name, embeddings[0])
        assert best(second, embeddings[0])[0] == name
        gallery.register(third, name, embeddings[1])
        assert best(first, embeddings[1])[0] == name
        source = gallery.register(second, f"{name}-source", embeddings[2])
        gallery.merge(first, created, source)
        assert best(third, embeddings[2])[0] == name
        if number % 3 == 0:
            gallery.move(third, created)
            assert best(second, embeddings[0], gallery.other)[0] == name
        elif number % 3 == 1:
            gallery.erase(third, created)
        assert (created in best(second, embeddings[0])[1]) is (number % 3 == 2)
        assert source not in best(first, embeddings[2])[1]
    return plans


def _text(embedding: np.ndarray) -> str:
    return base64.b64encode(embedding.astype("<f4").tobytes()).decode()
