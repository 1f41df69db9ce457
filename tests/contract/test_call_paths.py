"""Limits of a request's call path from the use case on: SQL statements, files, and returns to a higher layer."""

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import httpx
import pytest
from sqlalchemy import event
from sqlalchemy.engine import Engine
from sqlalchemy.engine.interfaces import CacheStats

import service
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.enrolment.store import EnrolmentStore
from service.gallery.index.memory_indexes import MemoryIndexes
from service.gallery.search.search import GallerySearch, GallerySizes
from service.gallery.storage.database import Database
from service.inference.bundle import read_embedder
from service.inference.engine import FaceChoice, Picture
from service.inference.pipeline import FacePipeline
from service.recognition.candidates import ResponseLimits
from service.recognition.decision import DecisionPolicy, DecisionResolver
from service.recognition.enrolment import Enroller
from service.recognition.enrolment_records import EnrolmentRequest
from service.recognition.identification import IdentificationRequest, Identifier
from service.recognition.operating_point import OperatingPoint
from service.recognition.policies import QualityLimits, QualityMode
from service.recognition.read_audit import ReadAuditBuffer
from service.runtime.settings import BUNDLES
from tests.photos import COLLINS, HOPPER, b64, brighter

ROOT = Path(service.__file__).parent
LAYERS = {"recognition": 2, "gallery": 1, "inference": 1}
MAX_FILES, MAX_RETURNS = {"registration": 8, "search": 11}, 2
STORAGE = "gallery/storage"
"""The files of this folder, which open a transaction, count as one."""
ENGINE = "inference/engine.py"
"""The file that counts as the engine; the files behind the `Engine` protocol are not counted."""


@contextmanager
def recorded_statements() -> Iterator[list[tuple[str, bool]]]:
    """Records the SQL statements of requests while the block runs, and for each whether SQLAlchemy can cache it.

    Statements of background tasks, such as the search for events of webhooks, do not count.
    """
    statements: list[tuple[str, bool]] = []

    def record(connection: Any, cursor: Any, statement: str, parameters: Any, context: Any, many: bool) -> None:
        task = asyncio.current_task()
        if task is not None and task.get_coro().__qualname__.endswith("run_asgi"):
            cacheable = context is None or context.cache_hit is not CacheStats.NO_CACHE_KEY
            statements.append((statement, cacheable))

    event.listen(Engine, "before_cursor_execute", record)
    try:
        yield statements
    finally:
        event.remove(Engine, "before_cursor_execute", record)


class Direct:
    """The session's engine without its queue. Its own files are behind the `Engine` protocol and are not counted."""

    def __init__(self, engine: FacePipeline) -> None:
        self.model_id, self.dims, self._engine = engine.model_id, engine.dims, engine

    async def observe(self, images):
        return await asyncio.to_thread(self._engine.observe_files, images)


class Trace:
    """Records the calls of functions in recognition and gallery on one thread. `ENGINE` stands for the engine."""

    def __init__(self) -> None:
        self.visited: set[str] = set()
        self.down: list[str] = []
        self.up: list[str] = []
        self._frames: set[FrameType] = set()

    def _enter(self, frame: FrameType, kind: str, _: Any) -> None:
        if kind != "call" or frame in self._frames:  # a coroutine that is resumed is reported as a call again
            return
        self._frames.add(frame)
        file, caller = _file(frame), None if frame.f_back is None else _file(frame.f_back)
        if file is None:
            return
        self.visited.add(file)
        if caller is not None and (step := LAYERS[_layer(caller)] - LAYERS[_layer(file)]):
            (self.down if step > 0 else self.up).append(f"{caller} -> {file} {frame.f_code.co_name}")

    def run(self, use_case: Callable[[], Awaitable[object]]) -> None:
        """Runs a use case in a new event loop and records its calls."""

        async def traced() -> None:
            sys.setprofile(self._enter)
            try:
                await use_case()
            finally:
                sys.setprofile(None)

        asyncio.run(traced())

    @property
    def returns(self) -> int:
        """Returns from a lower layer after which the use case goes on, and calls from a lower to a higher layer."""
        return len(self.down) - 1 + len(self.up)


def _file(frame: FrameType) -> str | None:
    """The file of a frame below `service`; None for other files and layers that are not counted."""
    if frame.f_code.co_qualname == "Direct.observe":
        return ENGINE
    file = frame.f_code.co_filename.removeprefix(f"{ROOT}/")
    if file.startswith(STORAGE):
        return STORAGE
    return file if _layer(file) in LAYERS else None


def _layer(file: str) -> str:
    return file.partition("/")[0]


@pytest.fixture
def parts(postgres_url: str, engine: FacePipeline) -> Callable[[], dict[str, Any]]:
    def build() -> dict[str, Any]:
        policy = DecisionPolicy(read_embedder(BUNDLES / "embedder").calibration, "f32", OperatingPoint("fmr", 1e-3))
        database, audit_trail = Database(postgres_url), AuditTrail(b"k" * 32)
        resolver = DecisionResolver({engine.model_id: policy})
        limits = QualityLimits(32, 15, 0.75, 30, 235, 0.85, 0.05)
        by_mode = {mode: limits.for_mode(mode) for mode in QualityMode}
        indexes = MemoryIndexes(database, 0)
        sizes = GallerySizes(indexes)
        store, search = EnrolmentStore(database, audit_trail, sizes, indexes), GallerySearch(database, sizes, indexes)
        direct = Direct(engine)
        return {
            "enroller": Enroller(
                store, direct, by_mode, resolver, resolver.outliers_below, ReadAuditBuffer(database, audit_trail)
            ),
            "identifier": Identifier(
                search, direct, resolver, ReadAuditBuffer(database, audit_trail), ResponseLimits()
            ),
        }

    return build


@pytest.mark.parametrize("with_key", [False, True])
def test_a_registration_takes_at_most_eight_statements_and_two_for_its_key(
    client: httpx.Client, collection_name: str, with_key: bool
) -> None:
    counts = []
    for number, photo in enumerate((COLLINS.read_bytes(), brighter(COLLINS, 0.8), brighter(COLLINS, 0.9))):
        label = "new" if number == 2 else "collins"
        headers = {"Idempotency-Key": f"{collection_name}-{number}"} if with_key else {}
        with recorded_statements() as statements:
            body = {"label": label, "images": [b64(photo)]}
            response = client.post("/register", params={"collection": collection_name}, json=body, headers=headers)
        assert response.is_success, response.text
        assert [statement for statement, cacheable in statements if not cacheable] == []
        counts.append(len(statements))
    assert max(counts) <= (10 if with_key else 8), counts


def test_a_search_takes_at_most_five_statements(client: httpx.Client, collection_name: str) -> None:
    body = {"label": "collins", "images": [b64(COLLINS.read_bytes())]}
    assert client.post("/register", params={"collection": collection_name}, json=body).is_success
    for search in ({"image": b64(HOPPER.read_bytes())}, {"image": b64(HOPPER.read_bytes()), "filter": {"team": "x"}}):
        with recorded_statements() as statements:
            assert client.post("/search", params={"collection": collection_name}, json=search).is_success
        own = [item for item in statements if "audit" not in item[0]]
        assert len(own) <= 5, own
        assert [statement for statement, cacheable in own if not cacheable] == []


def test_a_registration_visits_few_files_and_returns_rarely(
    collection_name: str, parts: Callable[[], dict[str, Any]]
) -> None:
    asyncio.run(_warm(parts, collection_name))
    trace, enroller = Trace(), parts()["enroller"]
    picture = Picture(COLLINS.read_bytes(), FaceChoice.ONLY)
    request = EnrolmentRequest(collection_name, "collins", None, None, [picture])

    async def enrol() -> None:
        await enroller.enrol(request)
        await enroller.store.database.close()

    trace.run(enrol)
    assert len(trace.visited - {ENGINE}) <= MAX_FILES["registration"], sorted(trace.visited)
    assert trace.returns <= MAX_RETURNS, (trace.down, trace.up)


def test_a_search_visits_few_files(collection_name: str, parts: Callable[[], dict[str, Any]]) -> None:
    asyncio.run(_warm(parts, collection_name))
    trace, identifier = Trace(), parts()["identifier"]
    request = IdentificationRequest(collection_name, [Picture(COLLINS.read_bytes())], None, 5)

    async def search() -> None:
        await identifier.identify(request)
        await identifier.search.database.close()

    trace.run(search)
    assert len(trace.visited - {ENGINE}) <= MAX_FILES["search"], sorted(trace.visited)
    assert trace.returns <= MAX_RETURNS, (trace.down, trace.up)


async def _warm(parts: Callable[[], dict[str, Any]], collection_name: str) -> None:
    """Opens a connection and fills caches once, so that the trace contains what every request does."""
    picture = Picture(HOPPER.read_bytes(), FaceChoice.ONLY)
    enroller = parts()["enroller"]
    await enroller.enrol(EnrolmentRequest(collection_name, "hopper", None, None, [picture]))
    await enroller.store.database.close()
