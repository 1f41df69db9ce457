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
from service.gallery.people.crop_cipher import CropCipher
from service.gallery.search.search import GallerySearch, GallerySizes
from service.gallery.storage.database import Database
from service.inference.bundle import read_embedder
from service.inference.engine import Observation, Picture
from service.inference.local import LocalEngine
from service.recognition.decision import DecisionPolicy, DecisionResolver
from service.recognition.enrolment import Enroller
from service.recognition.enrolment_records import Enrolment, EnrolmentRequest
from service.recognition.identification import IdentificationRequest, Identifier
from service.recognition.operating_point import OperatingPoint
from service.recognition.policies import QualityLimits
from service.recognition.read_audit import ReadAuditBuffer
from service.runtime.engines import build_local
from service.runtime.settings import Settings
from tests.contract.model_migration import (
    FIRST_MODEL,
    KEY,
    SECOND_MODEL,
    best_candidate,
    create_collection,
    job_finished,
    migration,
    register,
    search_for,
    start_migration,
)
from tests.photos import COLLINS, HOPPER, brighter


def generate_pictures(count: int) -> dict[str, bytes]:
    """So many people, of whom some look like each other: what matters is that each picture finds itself."""
    photos = (COLLINS, HOPPER)
    return {f"p{number}": brighter(photos[number % 2], 0.6 + 0.04 * (number // 2)) for number in range(count)}


class Traffic:
    """Three who search for what is enrolled, and one who enrols, until it is told to stop."""

    def __init__(self, client: httpx.Client, name: str, enrolled: dict[str, bytes]) -> None:
        self._client, self._name, self._enrolled = client, name, enrolled
        self._stop = threading.Event()
        self.responses: list[dict[str, Any]] = []
        self.newcomers: dict[str, bytes] = {}

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
            self.responses.append(search_for(self._client, self._name, picture))

    def _register(self) -> None:
        while not self._stop.is_set():
            number = len(self.newcomers)
            picture = brighter(HOPPER, 0.55 + 0.001 * number)
            register(self._client, self._name, f"new-{number}", picture)
            self.newcomers[f"new-{number}"] = picture


def test_a_collection_changes_its_model_under_traffic(multi_model: httpx.Client) -> None:
    """Whoever searches finds the enrolled picture at a cosine of one, by the one model or by the other.

    Embeddings of two models have nothing in common: a comparison between them would score about zero.
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
        wait_for_migration(multi_model, name, lambda view: view["model_id"] == SECOND_MODEL)
        for model_id in (FIRST_MODEL, SECOND_MODEL):  # back, and there again
            time.sleep(1)
            for _ in range(2):  # sent again it changes nothing
                changed = multi_model.post(f"/collections/{name}/model-migration/activate", json={"model_id": model_id})
                assert (changed.status_code, changed.json()["model_id"]) == (200, model_id), changed.text
        time.sleep(1)
    assert {found["model_id"] for found in traffic.responses} == {FIRST_MODEL, SECOND_MODEL}
    assert min(best_candidate(found)["score"] for found in traffic.responses) > 0.99
    everybody = enrolled | traffic.newcomers
    known = {"identities": len(everybody), "missing": 0, "partial": 0, "corrections_missing": 0}
    assert migration(multi_model, name)["coverage"] == known
    for label, picture in list(everybody.items())[::5]:
        found = search_for(multi_model, name, picture, top_k=50)
        assert found["model_id"] == SECOND_MODEL
        assert label in {one["external_id"] for one in found["results"][0]["candidates"] if one["score"] > 0.999}
    other = multi_model.delete(f"/collections/{name}/model-migration", params={"model_id": SECOND_MODEL})
    assert (other.status_code, other.json()["code"]) == (409, "conflict")
    dropped = multi_model.delete(f"/collections/{name}/model-migration", params={"model_id": FIRST_MODEL}).json()
    rows = {"templates": len(everybody), "centroids": len(everybody), "corrections": 0}
    assert dropped == {"model_id": FIRST_MODEL, "deleted": rows}
    assert migration(multi_model, name)["secondary_model_id"] is None
    assert best_candidate(search_for(multi_model, name, enrolled["p0"]))["score"] > 0.99
    trail = multi_model.get("/audit", params={"collection": name, "limit": 1000}).json()["entries"]
    actions = [entry["action"] for entry in trail]
    assert [one for one in actions if one.startswith("model-")] == [
        "model-standby",
        *["model-activate"] * 3,
        "model-drop",
    ]


class ChangesMeanwhile:
    """An engine; while it looks at the first pictures, the collection's models change places."""

    def __init__(self, engine: LocalEngine, client: httpx.Client, name: str) -> None:
        self.model_id, self.dims = engine.model_id, engine.dims
        self._engine, self._client, self._name, self.asked = engine, client, name, 0

    async def observe(self, images: Sequence[Picture]) -> list[Observation | RegistryError]:
        self.asked += 1
        if self.asked == 1:
            path = f"/collections/{self._name}/model-migration/activate"
            response = await asyncio.to_thread(self._client.post, path, json={"force": True})
            assert response.status_code == 200, response.text
        return self._engine.observe_now(images)


@pytest.mark.anyio
async def test_a_model_that_changes_under_a_request_is_noticed(
    multi_model: httpx.Client, multi_model_settings: Settings, database: Database
) -> None:
    """Whoever looked at the pictures by one model begins anew: nothing of the other's is compared with it, or lost."""
    local = build_local(multi_model_settings)
    bundles = {read_embedder(folder).model_id: read_embedder(folder) for folder in multi_model_settings.embedder.bundles}
    default = OperatingPoint("fmr", 1e-3)
    policies = {name: DecisionPolicy(one.calibration, "f32", default) for name, one in bundles.items()}
    resolver, limits = DecisionResolver(policies), QualityLimits(32, 15, 0.75, 30, 235, 0.05)
    audit_trail, sizes = AuditTrail(None), GallerySizes()
    name = create_collection(multi_model, store_crops=True)
    register(multi_model, name, "collins", COLLINS.read_bytes())
    start_migration(multi_model, name, auto_activate=False)
    wait_for_migration(multi_model, name, job_finished)

    engine = ChangesMeanwhile(local, multi_model, name)
    store = EnrolmentStore(database, audit_trail, sizes)
    enroller = Enroller(store, engine, limits, resolver, CropCipher([KEY.encode()]))
    made = await enroller.enrol(EnrolmentRequest(name, "hopper", None, None, [Picture(HOPPER.read_bytes())]))
    assert isinstance(made, Enrolment)
    view = migration(multi_model, name)
    assert (view["model_id"], view["coverage"]["identities"], view["coverage"]["missing"]) == (SECOND_MODEL, 2, 0)

    engine = ChangesMeanwhile(local, multi_model, name)  # and back
    request = IdentificationRequest(name, [Picture(COLLINS.read_bytes())], None, 5)
    search_by = GallerySearch(database, sizes)
    found = await Identifier(search_by, engine, resolver, ReadAuditBuffer(database, audit_trail)).identify(request)
    assert (found.model_id, engine.asked) == (FIRST_MODEL, 2)
    assert found.matches[0].result.candidates[0].score > 0.999
