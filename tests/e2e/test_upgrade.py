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

from service.gallery.storage import schema
from tests.photos import COLLINS, HOPPER
from tests.server import running_api

REPOSITORY = Path(__file__).parents[2]


NEXT = '''"""What a next release may do while this one serves: it adds, and takes nothing away.

Revision ID: next
Revises: {head}
"""

import sqlalchemy as sa
from alembic import op

revision, down_revision, branch_labels, depends_on = "next", "{head}", None, None


def upgrade() -> None:
    op.add_column("identity", sa.Column("note", sa.Text(), server_default="", nullable=False))
    op.create_table("added", sa.Column("id", sa.Uuid(), primary_key=True))
    with op.get_context().autocommit_block():
        op.create_index("ix_added", "identity", ["collection_id", "note"], postgresql_concurrently=True)
'''


@pytest.fixture
def next_release(tmp_path: Path) -> Path:
    """A working directory with a migration more: a command started in it takes itself for the next release."""
    shutil.copytree(REPOSITORY / "migrations", tmp_path / "migrations")
    head = schema.this_release().wanted
    (tmp_path / "migrations" / "versions" / "next.py").write_text(NEXT.replace("{head}", head))
    return tmp_path


def upgrade(url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service", "db", "upgrade"]
    environment = os.environ | {"REGISTRY_DATABASE__URL": url}
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)


def test_the_api_stays_ready_and_serves_while_the_next_release_migrates(
    postgres_url: str, next_release: Path, data_folder: Path
) -> None:
    libpq = postgres_url.replace("postgresql+psycopg", "postgresql")
    with psycopg.connect(libpq, autocommit=True) as connection:
        connection.execute("DROP DATABASE IF EXISTS upgraded WITH (FORCE)")
        connection.execute("CREATE DATABASE upgraded")
    url = postgres_url.replace("/registry?", "/upgraded?")
    head = schema.this_release().wanted
    schema.upgrade(url)
    outcomes, ended = Counter[tuple[str, int]](), threading.Event()
    with running_api(data_folder, REGISTRY_DATABASE__URL=url) as api:
        assert api.client.get("/readyz").json()["schema_revision"] == head

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
        migrated = upgrade(url, next_release)
        time.sleep(0.5)
        ended.set()
        client.join()
        assert migrated.returncode == 0, migrated.stderr
        assert "next" in migrated.stdout
        assert set(outcomes) == {("register", 201), ("ready", 200)}
        assert outcomes["register", 201] > 3
    # And it can be started again: a release that is rolled back finds a schema that still serves it.
    again = upgrade(url, REPOSITORY)
    assert again.returncode == 0, again.stderr
    assert "next of a later release and serves this one" in again.stderr
    with running_api(data_folder, REGISTRY_DATABASE__URL=url) as api:
        assert api.client.get("/readyz").json()["schema_revision"] == head
        assert len(api.client.get("/identities?limit=1000").json()["identities"]) == outcomes["register", 201]
