"""Fixtures and functions of the tests of `identity-registry live`."""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import open_folder
from tests.photos import COLLINS, HOPPER, b64
from tests.server import RunningApi, running_api
from tests.video import empty, visit, write


@pytest.fixture(scope="module")
def api() -> Iterator[RunningApi]:
    folder = open_folder()
    with running_api(folder) as api:
        yield api
    shutil.rmtree(folder)


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A video of an enrolled person, then of another one."""
    path = tmp_path_factory.mktemp("videos") / "visit.mp4"
    return write(path, [visit(COLLINS, 3), empty(2), visit(HOPPER, 3), empty(2)])


@pytest.fixture
def collection(api: RunningApi, request: pytest.FixtureRequest) -> str:
    """A collection with one person."""
    name = f"{request.node.name[:40]}".replace("_", "-")
    assert api.client.post("/collections", json={"name": name}).status_code == 201
    person = {"external_id": "collins", "label": "Eileen Collins", "image": b64(COLLINS.read_bytes())}
    assert api.client.post("/register", params={"collection": name}, json=person).status_code == 201
    return name


def command(api: RunningApi, collection: str, camera: object, *options: str) -> list[str]:
    source = ["--url", str(api.client.base_url), "--collection", collection, "--camera", str(camera)]
    return [sys.executable, "-m", "service", "live", *source, *options]


def live(api: RunningApi, collection: str, camera: object, *options: str) -> list[dict]:
    """Runs `live` to the end of a video and returns its events."""
    result = subprocess.run(
        command(api, collection, camera, *options), capture_output=True, text=True, check=True, timeout=120
    )
    assert result.stderr == ""
    return [json.loads(line) for line in result.stdout.splitlines()]
