"""Fixtures: one migrated PostgreSQL with pgvector for the run, the service on a socket, a new collection per test."""

import contextlib
import os
import shutil
import tempfile
import threading
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI
from PIL import Image

from service.embedded_postgres.lease import EmbeddedPostgres
from service.gallery.people import collections
from service.gallery.people.collections import Collection
from service.gallery.storage import schema
from service.gallery.storage.database import Database
from service.inference.pipeline import FacePipeline
from service.runtime.api import create_app
from service.runtime.engines import build_pipeline
from service.runtime.settings import Settings, load_settings
from tests.databases import new_database
from tests.photos import COLLINS, HOPPER, pixels
from tools import citus

for name in [name for name in os.environ if name.startswith("REGISTRY_")]:
    del os.environ[name]
FACE_BOXES = {COLLINS: (148, 40, 300, 192), HOPPER: (150, 110, 400, 360)}
EMPTY_CONFIG = tempfile.NamedTemporaryFile(suffix=".yaml")  # noqa: SIM115 - exists until the run ends
os.environ["REGISTRY_CONFIG"] = EMPTY_CONFIG.name


@pytest.fixture(scope="session")
def anyio_backend() -> str:
    return "asyncio"


def open_folder() -> Path:
    """Returns a new folder that the account of PostgreSQL can enter, also if root runs the tests."""
    folder = Path(tempfile.mkdtemp(prefix="ir-"))
    folder.chmod(0o711)
    return folder


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """The URL of an embedded server, or of a new database of the Citus cluster whose coordinator CITUS_URL names."""
    if cluster := os.environ.get("CITUS_URL"):
        with citus.new_database(cluster) as url:
            schema.upgrade(url)
            yield url
        return
    folder = open_folder()
    with EmbeddedPostgres(folder / "postgres") as url:
        schema.upgrade(url)
        yield url
    shutil.rmtree(folder)


@pytest.fixture
def empty_database(postgres_url: str) -> Iterator[str]:
    """The URL of a database without tables that no other test uses, on the same server or cluster."""
    with new_database(postgres_url) as url:
        yield url


@pytest.fixture
def data_folder() -> Iterator[Path]:
    folder = open_folder()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def import_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns the folder of the server that bulk enrolments may read."""
    return tmp_path_factory.mktemp("import")


@pytest.fixture(scope="session")
def identity_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder of two people with twelve face crops each, shifted and lit differently, of real photos."""
    folder = tmp_path_factory.mktemp("identities")
    rng = np.random.default_rng(0)
    for name, path in (("collins", COLLINS), ("hopper", HOPPER)):
        (folder / name).mkdir()
        for number in range(12):
            x0, y0, x1, y1 = FACE_BOXES[path]
            shift = rng.uniform(-0.05, 0.05, 2) * (x1 - x0)
            crop = Image.fromarray(pixels(path)).crop((x0 + shift[0], y0 + shift[1], x1 + shift[0], y1 + shift[1]))
            lit = np.asarray(crop.resize((160, 160))).astype(np.float32) * rng.uniform(0.6, 1.1)
            Image.fromarray(lit.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number:02}.webp", quality=90)
    return folder


@pytest.fixture(scope="session")
def ten_people(identity_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder with the same crops, divided among ten people with two or four crops each."""
    folder = tmp_path_factory.mktemp("ten")
    for path in sorted(identity_folder.glob("*/*.webp")):
        person = folder / f"{path.parent.name}-{min(int(path.stem), 9) // 2}"
        person.mkdir(exist_ok=True)
        shutil.copy(path, person)
    return folder


@pytest.fixture(scope="session")
def settings(postgres_url: str, import_root: Path, tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return load_settings(
        database={"url": postgres_url},
        limits={"max_body_bytes": 8 * 1024**2},
        audit={"key": "the audit key of the tests, long enough"},
        jobs={"uploads": tmp_path_factory.mktemp("uploads"), "import_root": import_root},
    )


@pytest.fixture(scope="session")
def engine(settings: Settings) -> FacePipeline:
    return build_pipeline(settings)


@contextlib.contextmanager
def serving(app: FastAPI) -> Iterator[httpx.Client]:
    """Serves the application on a socket from a thread of this process. Yields a client of it."""
    server = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=0, log_level="warning"))
    thread = threading.Thread(target=server.run)
    thread.start()
    while not server.started:
        assert thread.is_alive(), "the application did not start"
        time.sleep(0.01)
    port = server.servers[0].sockets[0].getsockname()[1]
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=30) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join()


@pytest.fixture(scope="session")
def client(settings: Settings) -> Iterator[httpx.Client]:
    with serving(create_app(settings)) as client:
        yield client


@pytest.fixture
def collection_name(client: httpx.Client) -> str:
    name = f"test-{uuid.uuid4().hex[:12]}"
    assert client.post("/collections", json={"name": name}).status_code == 201
    return name


@pytest.fixture
async def database(postgres_url: str) -> AsyncIterator[Database]:
    database = Database(postgres_url)
    yield database
    await database.close()


@pytest.fixture
async def collection(database: Database) -> Collection:
    """Returns an empty collection of a model with 16 dimensions."""
    async with database.transaction() as connection:
        await collections.add_model(connection, "tiny", 16, "0" * 64)
        return await collections.create(connection, f"test-{uuid.uuid4().hex[:12]}", "tiny")
