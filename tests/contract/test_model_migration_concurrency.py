"""Tests of requests that run while a model migration activates another model."""

import asyncio
import itertools
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from service.errors import RegistryError
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.enrolment.store import EnrolmentStore
from service.gallery.index.memory_indexes import MemoryIndexes
from service.gallery.people.crop_cipher import CropCipher
from service.gallery.search.search import GallerySearch, GallerySizes
from service.gallery.storage.database import Database
from service.inference.bundle import read_embedder
from service.inference.engine import Observation, Picture
from service.inference.pipeline import FacePipeline
from service.recognition.candidates import ResponseLimits
from service.recognition.decision import DecisionPolicy, DecisionResolver
from service.recognition.enrolment import Enroller
from service.recognition.enrolment_records import Enrolment, EnrolmentRequest
from service.recognition.identification import IdentificationRequest, Identifier
from service.recognition.operating_point import OperatingPoint
from service.recognition.policies import QualityLimits, QualityMode
from service.recognition.read_audit import ReadAuditBuffer
from service.runtime.engines import build_pipeline
from service.runtime.settings import Settings
from tests.contract.model_migration import (
    FIRST_MODEL,
    KEY,
    SECOND_MODEL,
    best_candidate,
    create_collection,
    generate_pictures,
    job_finished,
    migration,
    register,
    search_for,
    start_migration,
    wait_for_migration,
)
from tests.photos import COLLINS, HOPPER, brighter


class Traffic:
    """Three threads that search for enrolled pictures and one that enrols identities, until the context ends."""

    def __init__(self, client: httpx.Client, name: str, enrolled: dict[str, bytes]) -> None:
        self._client, self._name, self._enrolled = client, name, enrolled
        self._stop = threading.Event()
        self.searches: list[dict[str, Any]] = []
        self.new_pictures: dict[str, bytes] = {}

    def __enter__(self) -> "Traffic":
        self._threads = ThreadPoolExecutor(4)
        self._tasks = [self._threads.submit(self._search, number) for number in range(3)]
        self._tasks.append(self._threads.submit(self._register))
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for task in self._tasks:
            task.result()
        self._threads.shutdown()

    def _search(self, number: int) -> None:
        for picture in itertools.cycle(list(self._enrolled.values())[number::3]):
            if self._stop.is_set():
                return
            self.searches.append(search_for(self._client, self._name, picture))

    def _register(self) -> None:
        while not self._stop.is_set():
            number = len(self.new_pictures)
            picture = brighter(HOPPER, 0.55 + 0.001 * number)
            register(self._client, self._name, f"new-{number}", picture)
            self.new_pictures[f"new-{number}"] = picture


def test_model_migration_under_traffic(multi_model: httpx.Client) -> None:
    """Every search returns the enrolled picture with a score of about 1, under either model.

    A comparison of embeddings of different models would give a score of about 0.
    """
    name = create_collection(multi_model, store_crops=True)
    enrolled = generate_pictures(24)
    for label, picture in enrolled.items():
        register(multi_model, name, label, picture)
    with Traffic(multi_model, name, enrolled) as traffic:
        time.sleep(1)
        response = start_migration(multi_model, name)
        assert response.status_code == 202, response.text
        assert multi_model.get(response.headers["location"]).json()["kind"] == "re-embedding"
        wait_for_migration(multi_model, name, lambda state: state["model_id"] == SECOND_MODEL)
        for model_id in (FIRST_MODEL, SECOND_MODEL):
            time.sleep(1)
            for _ in range(2):  # The second request has no effect.
                changed = multi_model.post(f"/collections/{name}/model-migration/activate", json={"model_id": model_id})
                assert (changed.status_code, changed.json()["model_id"]) == (200, model_id), changed.text
        time.sleep(1)
    assert {search["model_id"] for search in traffic.searches} == {FIRST_MODEL, SECOND_MODEL}
    # A registration detects all faces of the picture, and a search stops at a smaller input size.
    assert min(best_candidate(search)["score"] for search in traffic.searches) > 0.98
    all_pictures = enrolled | traffic.new_pictures
    complete = {"identities": len(all_pictures), "missing": 0, "partial": 0, "corrections_missing": 0}
    assert migration(multi_model, name)["coverage"] == complete
    for label, picture in list(all_pictures.items())[::5]:
        search = search_for(multi_model, name, picture, top_k=50)
        assert search["model_id"] == SECOND_MODEL
        candidates = search["results"][0]["candidates"]
        assert label in {candidate["external_id"] for candidate in candidates if candidate["score"] > 0.98}
    refused = multi_model.delete(f"/collections/{name}/model-migration", params={"model_id": SECOND_MODEL})
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    deletion = multi_model.delete(f"/collections/{name}/model-migration", params={"model_id": FIRST_MODEL}).json()
    rows = {"templates": len(all_pictures), "centroids": len(all_pictures), "corrections": 0}
    assert deletion == {"model_id": FIRST_MODEL, "deleted": rows}
    assert migration(multi_model, name)["secondary_model_id"] is None
    assert best_candidate(search_for(multi_model, name, enrolled["p0"]))["score"] > 0.99
    entries = multi_model.get("/audit", params={"collection": name, "limit": 1000}).json()["entries"]
    actions = [entry["action"] for entry in entries]
    assert [action for action in actions if action.startswith("model-")] == [
        "model-standby",
        *["model-activate"] * 3,
        "model-drop",
    ]


class ActivatingEngine:
    """A local engine that activates the secondary model of a collection during its first call."""

    def __init__(self, engine: FacePipeline, client: httpx.Client, name: str) -> None:
        self.model_id, self.dims = engine.model_id, engine.dims
        self._engine, self._client, self._name, self.calls = engine, client, name, 0

    async def observe(self, images: Sequence[Picture]) -> list[Observation | RegistryError]:
        self.calls += 1
        if self.calls == 1:
            path = f"/collections/{self._name}/model-migration/activate"
            response = await asyncio.to_thread(self._client.post, path, json={"force": True})
            assert response.status_code == 200, response.text
        return self._engine.observe_files(images)


@pytest.mark.anyio
async def test_request_is_repeated_if_the_active_model_changes(
    multi_model: httpx.Client, multi_model_settings: Settings, database: Database
) -> None:
    """Embeddings of the former model are neither compared with those of the new one nor lost."""
    local = build_pipeline(multi_model_settings)
    manifests = [read_embedder(folder) for folder in multi_model_settings.embedder.bundles]
    default = OperatingPoint("fmr", 1e-3)
    policies = {item.model_id: DecisionPolicy(item.calibration, "f32", default) for item in manifests}
    resolver, limits = DecisionResolver(policies), QualityLimits(32, 15, 0.75, 30, 235, 0.85, 0.05)
    limits_by_mode = {mode: limits.for_mode(mode) for mode in QualityMode}
    audit_trail, indexes = AuditTrail(None), MemoryIndexes(database, 0)
    sizes = GallerySizes(indexes)
    name = create_collection(multi_model, store_crops=True)
    register(multi_model, name, "collins", COLLINS.read_bytes())
    start_migration(multi_model, name, auto_activate=False)
    wait_for_migration(multi_model, name, job_finished)

    engine = ActivatingEngine(local, multi_model, name)
    store = EnrolmentStore(database, audit_trail, sizes, indexes)
    enroller = Enroller(
        store,
        engine,
        limits_by_mode,
        resolver,
        resolver.outliers_below,
        ReadAuditBuffer(database, audit_trail),
        CropCipher([KEY.encode()]),
    )
    enrolment = await enroller.enrol(EnrolmentRequest(name, "hopper", None, None, [Picture(HOPPER.read_bytes())]))
    assert isinstance(enrolment, Enrolment)
    state = migration(multi_model, name)
    assert (state["model_id"], state["coverage"]["identities"], state["coverage"]["missing"]) == (SECOND_MODEL, 2, 0)

    engine = ActivatingEngine(local, multi_model, name)
    request = IdentificationRequest(name, [Picture(COLLINS.read_bytes())], None, 5)
    read_audit = ReadAuditBuffer(database, audit_trail)
    identification = await Identifier(
        GallerySearch(database, sizes, indexes), engine, resolver, read_audit, ResponseLimits()
    ).identify(request)
    assert (identification.model_id, engine.calls) == (FIRST_MODEL, 2)
    assert identification.matches[0].result.candidates[0].score > 0.98
