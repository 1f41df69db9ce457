"""A release goes on serving while the next one migrates its database."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import psycopg
import pytest

from service.gallery import schema
from tests.photos import COLLINS, HOPPER
from tests.server import running_api

REPOSITORY = Path(__file__).parents[2]


@pytest.fixture
def earlier_release(tmp_path: Path) -> Path:
    """A working directory whose `migrations` end at 0003: a service started in it takes itself for that release."""
    shutil.copytree(REPOSITORY / "migrations", tmp_path / "migrations")
    for later in (tmp_path / "migrations" / "versions").glob("000[4-9]*"):
        later.unlink()
    return tmp_path


def test_the_old_api_stays_ready_and_serves_through_a_migration(
    postgres_url: str, earlier_release: Path, data_folder: Path
) -> None:
    libpq = postgres_url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(libpq, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS upgraded WITH (FORCE)")
        connection.execute("CREATE DATABASE upgraded")
    url = postgres_url.replace("/registry?", "/upgraded?")
    schema.upgrade(url, "0003")
    outcomes, ended = Counter[tuple[str, int]](), threading.Event()
    with running_api(data_folder, folder=earlier_release, REGISTRY_DATABASE__URL=url) as api:
        assert api.client.get("/readyz").json()["schema_revision"] == "0003"

        def use() -> None:
            number = 0
            while not ended.is_set():
                photo = {"images": (COLLINS, HOPPER)[number % 2].read_bytes()}
                answer = api.client.post("/register", data={"label": f"p{number}"}, files=photo)
                outcomes["register", answer.status_code] += 1
                outcomes["ready", api.client.get("/readyz").status_code] += 1
                number += 1

        client = threading.Thread(target=use)
        client.start()
        migrated = subprocess.run(
            [sys.executable, "-m", "service", "db", "upgrade"],
            env=os.environ | {"REGISTRY_DATABASE__URL": url},
            capture_output=True,
            text=True,
        )
        time.sleep(0.5)
        ended.set()
        client.join()
        assert migrated.returncode == 0, migrated.stderr
        assert "0004" in migrated.stdout
        assert set(outcomes) == {("register", 201), ("ready", 200)}
        assert outcomes["register", 201] > 3
    # And it can be started again: a release that is rolled back finds a schema that still serves it.
    again = subprocess.run(
        [sys.executable, "-m", "service", "db", "upgrade"],
        env=os.environ | {"REGISTRY_DATABASE__URL": url},
        cwd=earlier_release,
        capture_output=True,
        text=True,
    )
    assert again.returncode == 0, again.stderr
    assert "0004 of a later release and serves this one" in again.stderr
    with running_api(data_folder, folder=earlier_release, REGISTRY_DATABASE__URL=url) as api:
        assert api.client.get("/readyz").json()["schema_revision"] == "0003"
        assert len(api.client.get("/identities?limit=1000").json()["identities"]) == outcomes["register", 201]
