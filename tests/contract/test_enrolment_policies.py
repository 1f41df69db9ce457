"""What a collection asks of newcomers, and requests that arrive more than once."""

import asyncio
import uuid
from concurrent.futures import ThreadPoolExecutor

import httpx
import numpy as np
import pytest
from sqlalchemy import text

from service.gallery.access.audit_trail import AuditTrail
from service.gallery.people.enrolment import EnrolmentStore
from service.gallery.search.search import GallerySizes
from service.gallery.storage.database import Database
from service.inference.bundle import read_embedder
from service.inference.engine import FaceChoice, Picture
from service.inference.local import LocalEngine
from service.recognition.decision import DecisionPolicy, DecisionResolver
from service.recognition.enrolment import Enroller
from service.recognition.enrolment_records import Enrolment, EnrolmentRequest, IdempotencyRequest, IdempotentReplay
from service.recognition.operating_point import OperatingPoint
from service.recognition.policies import QualityLimits
from service.runtime.settings import BUNDLES
from tests.photos import COLLINS, HOPPER, b64, brighter, encoded, pixels

AGE = text("UPDATE idempotency SET created_at = now() - interval '25 hours' WHERE key = 'old'")


class Direct:
    """The session's engine, asked on the calling thread."""

    def __init__(self, engine: LocalEngine) -> None:
        self.model_id, self.dims, self._engine = engine.model_id, engine.dims, engine

    async def observe(self, images):
        return self._engine.observe_now(images)


def collection(client: httpx.Client, **rules: object) -> str:
    name = f"test-{uuid.uuid4().hex[:12]}"
    answer = client.post("/collections", json={"name": name, **rules})
    assert answer.status_code == 201, answer.text
    assert {rule: answer.json()[rule] for rule in rules} == rules
    return name


def register(client: httpx.Client, name: str, label: str, picture: bytes, key: str | None = None, **more: object):
    headers = {} if key is None else {"Idempotency-Key": key}
    body = {"label": label, "images": [b64(picture)], **more}
    return client.post("/register", params={"collection": name}, json=body, headers=headers)


def count(client: httpx.Client, name: str) -> int:
    return len(client.get("/identities", params={"collection": name}).json()["identities"])


def tiny(path=HOPPER, side: int = 40) -> bytes:
    """A portrait whose face has some 15 pixels."""
    import cv2

    return encoded(cv2.resize(pixels(path), (side, side), interpolation=cv2.INTER_AREA), "PNG")


def test_quality_off_takes_what_standard_refuses(client: httpx.Client) -> None:
    dark = encoded((pixels(HOPPER) * 0.12).astype(np.uint8), "PNG")
    refused = register(client, collection(client), "hopper", dark, detector="none")
    assert refused.status_code == 422
    assert "too_dark" in refused.json()["reasons"]
    assert register(client, collection(client, quality="off"), "hopper", dark, detector="none").status_code == 201


def test_strict_asks_for_more_than_standard(client: httpx.Client) -> None:
    name = collection(client, quality="strict")
    small = encoded(pixels(COLLINS)[30:230:2, 120:340:2], "PNG")
    refused = register(client, name, "collins", small)
    assert refused.status_code == 422, refused.text
    assert "too_small" in refused.json()["reasons"]
    assert register(client, collection(client), "collins", small).status_code == 201


def test_force_enrols_what_the_gate_refuses_and_says_so(client: httpx.Client) -> None:
    dark = encoded((pixels(HOPPER) * 0.12).astype(np.uint8), "PNG")
    answer = register(client, collection(client), "hopper", dark, detector="none", force=True)
    assert answer.status_code == 201
    (image,) = answer.json()["images"]
    assert image["status"] == "accepted"
    assert "too_dark" in image["reasons"]


def test_a_duplicate_is_rejected_and_nothing_is_stored(client: httpx.Client) -> None:
    name = collection(client, duplicates="reject")
    assert register(client, name, "collins", COLLINS.read_bytes()).status_code == 201
    again = register(client, name, "somebody else", brighter(COLLINS, 0.8))
    assert again.status_code == 409, again.text
    assert again.json()["code"] == "duplicate_person"
    assert [one["external_id"] for one in again.json()["duplicates"]] == ["collins"]
    assert count(client, name) == 1
    assert register(client, name, "hopper", HOPPER.read_bytes()).json()["duplicate_candidates"] == []
    assert register(client, name, "collins", brighter(COLLINS, 0.8)).status_code == 200


def test_a_duplicate_is_warned_of(client: httpx.Client) -> None:
    name = collection(client, duplicates="warn")
    first = register(client, name, "collins", COLLINS.read_bytes()).json()
    assert first["duplicate_candidates"] == []
    again = register(client, name, "somebody else", brighter(COLLINS, 0.8))
    assert again.status_code == 201
    (alike,) = again.json()["duplicate_candidates"]
    assert alike["identity_id"] == first["identity_id"]
    assert alike["score"] > 0.8


def test_rules_are_changed_one_by_one(client: httpx.Client) -> None:
    name = collection(client, fmr=0.0001)
    changed = client.patch(f"/collections/{name}", json={"duplicates": "warn"}).json()
    assert (changed["duplicates"], changed["quality"], changed["fmr"]) == ("warn", "standard", 0.0001)
    changed = client.patch(f"/collections/{name}", json={"fmr": None, "quality": "off"}).json()
    assert (changed["duplicates"], changed["quality"], changed["fmr"]) == ("warn", "off", None)
    assert client.patch(f"/collections/{name}", json={"quality": "high"}).status_code == 422


def test_of_two_who_enrol_a_newcomer_at_once_one_is_told(client: httpx.Client) -> None:
    """Under different names and from different pictures, ten times over."""
    for _ in range(10):
        name = collection(client, duplicates="reject")
        pictures = {"ada": COLLINS.read_bytes(), "grace": brighter(COLLINS, 0.85)}
        with ThreadPoolExecutor(2) as pool:
            answers = list(pool.map(lambda item, name=name: register(client, name, *item), pictures.items()))
        assert sorted(answer.status_code for answer in answers) == [201, 409]
        assert count(client, name) == 1


def test_a_request_that_comes_again_is_answered_and_not_repeated(client: httpx.Client) -> None:
    name, key = collection(client), str(uuid.uuid4())
    first = register(client, name, "collins", COLLINS.read_bytes(), key)
    again = register(client, name, "collins", COLLINS.read_bytes(), key)
    assert (first.status_code, again.status_code) == (201, 201)
    assert again.json() == first.json()
    assert "idempotency-replayed" not in first.headers
    assert again.headers["idempotency-replayed"] == "true"


def test_a_key_belongs_to_one_request(client: httpx.Client) -> None:
    name, key = collection(client), str(uuid.uuid4())
    assert register(client, name, "collins", COLLINS.read_bytes(), key).status_code == 201
    other = register(client, name, "collins", brighter(COLLINS, 0.9), key)
    assert other.status_code == 422
    assert other.json()["code"] == "idempotency_key_reused"
    elsewhere = register(client, collection(client), "collins", brighter(COLLINS, 0.9), key)
    assert elsewhere.status_code == 201
    for bad in ("", "two words", "x" * 256):
        assert register(client, name, "collins", COLLINS.read_bytes(), bad).status_code == 422


def test_a_refused_request_leaves_its_key_free(client: httpx.Client) -> None:
    name, key = collection(client), str(uuid.uuid4())
    assert register(client, name, "nobody", encoded(np.zeros((64, 64, 3), np.uint8), "PNG"), key).status_code == 422
    assert register(client, name, "collins", COLLINS.read_bytes(), key).status_code == 201


def test_the_same_request_many_times_at_once_has_one_effect(client: httpx.Client) -> None:
    name, key = collection(client), str(uuid.uuid4())
    with ThreadPoolExecutor(6) as pool:
        jobs = [pool.submit(register, client, name, "collins", COLLINS.read_bytes(), key) for _ in range(6)]
        answers = [job.result() for job in jobs]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.text for answer in answers}) == 1
    assert sum("idempotency-replayed" in answer.headers for answer in answers) == 5
    assert answers[0].json()["template_count"] == 1


def test_an_answer_goes_with_its_person(client: httpx.Client) -> None:
    name, key = collection(client), str(uuid.uuid4())
    first = register(client, name, "collins", COLLINS.read_bytes(), key).json()
    assert client.delete(f"/identities/{first['identity_id']}", params={"collection": name}).status_code == 200
    again = register(client, name, "collins", COLLINS.read_bytes(), key)
    assert again.status_code == 201
    assert again.json()["identity_id"] != first["identity_id"]


@pytest.mark.anyio
async def test_a_crash_between_commit_and_answer(client: httpx.Client, database: Database, engine: LocalEngine) -> None:
    """The first process commits and dies with the answer; the next one gives it."""
    name = collection(client)
    policy = DecisionPolicy(read_embedder(BUNDLES / "embedder").calibration, "f32", OperatingPoint("fmr", 1e-3))
    limits = QualityLimits(32, 15, 0.75, 30, 235, 0.05)

    def render(enrolment: Enrolment) -> dict[str, str]:
        return {"id": str(enrolment.identity.id)}

    def enroller() -> Enroller:
        store = EnrolmentStore(database, AuditTrail(None), GallerySizes())
        return Enroller(store, Direct(engine), limits, DecisionResolver({engine.model_id: policy}))

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
    name, key = collection(client), str(uuid.uuid4())
    with ThreadPoolExecutor(4) as pool:
        same = list(pool.map(lambda _: register(client, name, "collins", COLLINS.read_bytes(), key), range(4)))
    assert {answer.status_code for answer in same} == {201}, [answer.text for answer in same]
    assert len({answer.text for answer in same}) == 1
    other = str(uuid.uuid4())
    with ThreadPoolExecutor(4) as pool:
        different = list(pool.map(lambda n: register(client, name, f"p{n}", HOPPER.read_bytes(), other), range(4)))
    assert sorted(answer.status_code for answer in different) == [201, 422, 422, 422]
    assert count(client, name) == 2


@pytest.mark.anyio
async def test_a_response_that_is_erased_while_a_request_waits_for_it(
    client: httpx.Client, database: Database, engine: LocalEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other request's identity was erased after its key was seen: the client is asked to send the request again."""
    from service.gallery.people import idempotency

    async def taken(*_: object) -> bool:
        return False

    monkeypatch.setattr(idempotency, "store", taken)
    name = collection(client)
    answer = await asyncio.to_thread(register, client, name, "collins", COLLINS.read_bytes(), "k")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    assert count(client, name) == 0


@pytest.mark.anyio
async def test_expired_answers_are_forgotten(client: httpx.Client, collection_name: str, database: Database) -> None:
    from service.gallery.people import idempotency

    assert register(client, collection_name, "collins", COLLINS.read_bytes(), "old").status_code == 201
    async with database.transaction() as connection:
        await connection.execute(AGE)
    again = register(client, collection_name, "collins", brighter(COLLINS, 0.9), "old")
    assert again.status_code == 200, again.text
    async with database.transaction() as connection:
        await connection.execute(
            text("UPDATE idempotency SET created_at = now() - interval '25 hours' WHERE key='old'")
        )
        assert await idempotency.purge(connection) >= 1


def test_a_picture_of_somebody_else_is_told(client: httpx.Client, collection_name: str) -> None:
    """It is enrolled: two photos of one person may differ as much, and who sends them may know better."""
    (first,) = register(client, collection_name, "John", COLLINS.read_bytes()).json()["images"]
    assert (first["similarity"], first["outlier"]) == (None, False)
    (same,) = register(client, collection_name, "John", brighter(COLLINS, 0.8)).json()["images"]
    assert same["similarity"] > 0.9
    assert not same["outlier"]
    answer = register(client, collection_name, "John", HOPPER.read_bytes()).json()
    (other,) = answer["images"]
    assert (answer["template_count"], other["status"], other["outlier"]) == (3, "accepted", True)
    assert other["similarity"] < 0.3


def test_pictures_of_two_people_in_one_request_are_told(client: httpx.Client, collection_name: str) -> None:
    pictures = [b64(data) for data in (COLLINS.read_bytes(), brighter(COLLINS, 0.7), HOPPER.read_bytes())]
    body = {"label": "two", "images": pictures}
    images = client.post("/register", params={"collection": collection_name}, json=body).json()["images"]
    assert [image["outlier"] for image in images] == [False, False, True]
