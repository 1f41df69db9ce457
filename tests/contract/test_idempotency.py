"""Tests of idempotent requests: a repeated request gets the stored response."""

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from sqlalchemy import text

from service.gallery.access.audit_trail import AuditTrail
from service.gallery.enrolment.store import EnrolmentStore
from service.gallery.index.memory_indexes import MemoryIndexes
from service.gallery.search.search import GallerySizes
from service.gallery.storage.database import Database
from service.inference.bundle import read_embedder
from service.inference.engine import FaceChoice, Picture
from service.inference.pipeline import FacePipeline
from service.recognition.decision import DecisionPolicy, DecisionResolver
from service.recognition.enrolment import Enroller
from service.recognition.enrolment_records import Enrolment, EnrolmentRequest, IdempotencyRequest, IdempotentReplay
from service.recognition.operating_point import OperatingPoint
from service.recognition.policies import QualityLimits, QualityMode
from service.recognition.read_audit import ReadAuditBuffer
from service.runtime.settings import BUNDLES
from tests.contract.enrolment import count, create_collection, register
from tests.photos import COLLINS, HOPPER, brighter, encoded

EXPIRE = text("UPDATE idempotency SET created_at = now() - interval '25 hours' WHERE key = 'old'")


class SynchronousEngine:
    """Runs a local engine on the calling thread."""

    def __init__(self, engine: FacePipeline) -> None:
        self.model_id, self.dims, self._engine = engine.model_id, engine.dims, engine

    async def observe(self, images):
        return self._engine.observe_files(images)


def test_repeated_request_gets_the_stored_response(client: httpx.Client) -> None:
    name, key = create_collection(client), str(uuid.uuid4())
    first = register(client, name, "collins", COLLINS.read_bytes(), key=key)
    second = register(client, name, "collins", COLLINS.read_bytes(), key=key)
    assert (first.status_code, second.status_code) == (201, 201)
    assert second.json() == first.json()
    assert "idempotency-replayed" not in first.headers
    assert second.headers["idempotency-replayed"] == "true"


def test_repeated_response_withholds_similarity_and_outlier(client: httpx.Client) -> None:
    name, key = create_collection(client), str(uuid.uuid4())
    register(client, name, "collins", COLLINS.read_bytes())
    first, second = (register(client, name, "collins", HOPPER.read_bytes(), key=key).json() for _ in range(2))
    assert first["images"][0]["outlier"] is True
    assert (second["images"][0]["similarity"], second["images"][0]["outlier"]) == (None, None)


def test_idempotency_key_is_valid_for_one_request_and_collection(client: httpx.Client) -> None:
    name, key = create_collection(client), str(uuid.uuid4())
    assert register(client, name, "collins", COLLINS.read_bytes(), key=key).status_code == 201
    other = register(client, name, "collins", brighter(COLLINS, 0.9), key=key)
    assert other.status_code == 422
    assert other.json()["code"] == "idempotency_key_reused"
    elsewhere = register(client, create_collection(client), "collins", brighter(COLLINS, 0.9), key=key)
    assert elsewhere.status_code == 201
    for invalid in ("", "two words", "x" * 256):
        assert register(client, name, "collins", COLLINS.read_bytes(), key=invalid).status_code == 422


def test_key_of_a_refused_request_can_be_reused(client: httpx.Client) -> None:
    name, key = create_collection(client), str(uuid.uuid4())
    assert register(client, name, "nobody", encoded(np.zeros((64, 64, 3), np.uint8), "PNG"), key=key).status_code == 422
    assert register(client, name, "collins", COLLINS.read_bytes(), key=key).status_code == 201


def test_concurrent_equal_requests_take_effect_once(client: httpx.Client) -> None:
    name, key = create_collection(client), str(uuid.uuid4())
    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(register, client, name, "collins", COLLINS.read_bytes(), key=key) for _ in range(6)]
        responses = [job.result() for job in jobs]
    assert {response.status_code for response in responses} == {201}
    assert len({response.text for response in responses}) == 1
    assert sum("idempotency-replayed" in response.headers for response in responses) == 5
    assert responses[0].json()["template_count"] == 1


def test_erasure_deletes_the_stored_response(client: httpx.Client) -> None:
    name, key = create_collection(client), str(uuid.uuid4())
    first = register(client, name, "collins", COLLINS.read_bytes(), key=key).json()
    assert client.delete(f"/identities/{first['identity_id']}", params={"collection": name}).status_code == 200
    second = register(client, name, "collins", COLLINS.read_bytes(), key=key)
    assert second.status_code == 201
    assert second.json()["identity_id"] != first["identity_id"]


@pytest.mark.anyio
async def test_stored_response_survives_a_crash_after_commit(
    client: httpx.Client, database: Database, engine: FacePipeline
) -> None:
    """The first process commits and stops before it responds. A second process returns the stored response."""
    name = create_collection(client)
    policy = DecisionPolicy(read_embedder(BUNDLES / "embedder").calibration, "f32", OperatingPoint("fmr", 1e-3))
    resolver = DecisionResolver({engine.model_id: policy})
    limits = QualityLimits(32, 15, 0.75, 30, 235, 0.85, 0.05)
    limits_by_mode = {mode: limits.for_mode(mode) for mode in QualityMode}

    def render(enrolment: Enrolment) -> dict[str, str]:
        return {"id": str(enrolment.identity.id)}

    def enroller() -> Enroller:
        indexes = MemoryIndexes(database, 0)
        store = EnrolmentStore(database, AuditTrail(None), GallerySizes(indexes), indexes)
        return Enroller(
            store,
            SynchronousEngine(engine),
            limits_by_mode,
            resolver,
            resolver.outliers_below,
            ReadAuditBuffer(database, AuditTrail(None)),
        )

    picture = Picture(COLLINS.read_bytes(), FaceChoice.ONLY)
    key = IdempotencyRequest("k", b"\x01" * 32, render)
    request = EnrolmentRequest(name, "collins", None, None, [picture], idempotency=key)
    assert isinstance(await enroller().enrol(request), Enrolment)
    replay = await enroller().enrol(request)
    assert isinstance(replay, IdempotentReplay)
    listed = client.get("/identities", params={"collection": name}).json()["identities"]
    assert [replay.response["id"]] == [identity["id"] for identity in listed]


def test_concurrent_requests_with_one_key_take_effect_once(client: httpx.Client) -> None:
    """Under different names, so that no lock on an identity serialises them: one is stored, the others are refused."""
    name, key = create_collection(client), str(uuid.uuid4())
    with ThreadPoolExecutor(4) as pool:
        same = list(pool.map(lambda _: register(client, name, "collins", COLLINS.read_bytes(), key=key), range(4)))
    assert {response.status_code for response in same} == {201}, [response.text for response in same]
    assert len({response.text for response in same}) == 1
    other = str(uuid.uuid4())
    with ThreadPoolExecutor(4) as pool:
        different = list(pool.map(lambda n: register(client, name, f"p{n}", HOPPER.read_bytes(), key=other), range(4)))
    assert sorted(response.status_code for response in different) == [201, 422, 422, 422]
    assert count(client, name) == 2


@pytest.mark.anyio
async def test_conflict_if_the_stored_response_is_erased_meanwhile(
    client: httpx.Client, database: Database, engine: FacePipeline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The identity of the first request is erased between the check of the key and the read of its response."""
    from service.gallery.people import idempotency

    async def taken(*_: object) -> bool:
        return False

    monkeypatch.setattr(idempotency, "store", taken)
    name = create_collection(client)
    response = await asyncio.to_thread(register, client, name, "collins", COLLINS.read_bytes(), key="k")
    assert (response.status_code, response.json()["code"]) == (409, "conflict")
    assert count(client, name) == 0


@pytest.mark.anyio
async def test_expired_responses_are_ignored_and_purged(
    client: httpx.Client, collection_name: str, database: Database
) -> None:
    from service.gallery.people import idempotency

    assert register(client, collection_name, "collins", COLLINS.read_bytes(), key="old").status_code == 201
    async with database.transaction() as connection:
        await connection.execute(EXPIRE)
    second = register(client, collection_name, "collins", brighter(COLLINS, 0.9), key="old")
    assert second.status_code == 200, second.text
    async with database.transaction() as connection:
        await connection.execute(EXPIRE)
        assert await idempotency.purge(connection) >= 1
