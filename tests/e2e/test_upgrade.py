"""A running release serves requests while the next release migrates the database."""

import os
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from service.gallery.storage import schema
from tests.photos import COLLINS, HOPPER
from tests.server import running_api

REPOSITORY = Path(__file__).parents[2]


NEXT = '''"""A schema change that is compatible with the previous release: it only adds objects.

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
    """A working directory with an additional migration; commands started in it behave like the next release."""
    shutil.copytree(REPOSITORY / "migrations", tmp_path / "migrations")
    head = schema.this_release().wanted
    (tmp_path / "migrations" / "versions" / "next.py").write_text(NEXT.replace("{head}", head))
    return tmp_path


def upgrade(url: str, folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "service", "db", "upgrade"]
    environment = os.environ | {"REGISTRY_DATABASE__URL": url}
    return subprocess.run(command, env=environment, cwd=folder, capture_output=True, text=True)


def test_the_api_serves_requests_while_the_next_release_migrates(
    empty_database: str, next_release: Path, data_folder: Path
) -> None:
    url = empty_database
    head = schema.this_release().wanted
    schema.upgrade(url)
    outcomes, stopped = Counter[tuple[str, int]](), threading.Event()
    with running_api(data_folder, REGISTRY_DATABASE__URL=url) as api:
        assert api.client.get("/readyz").json()["schema_revision"] == head

        def send_requests() -> None:
            number = 0
            while not stopped.is_set():
                picture = {"images": (COLLINS, HOPPER)[number % 2].read_bytes()}
                response = api.client.post("/register", data={"label": f"p{number}"}, files=picture)
                outcomes["register", response.status_code] += 1
                outcomes["ready", api.client.get("/readyz").status_code] += 1
                number += 1

        client = threading.Thread(target=send_requests)
        client.start()
        migrated = upgrade(url, next_release)
        time.sleep(0.5)
        stopped.set()
        client.join()
        assert migrated.returncode == 0, migrated.stderr
        assert "next" in migrated.stdout
        assert set(outcomes) == {("register", 201), ("ready", 200)}
        assert outcomes["register", 201] > 3
    # After a rollback the previous release starts with the newer schema.
    again = upgrade(url, REPOSITORY)
    assert again.returncode == 0, again.stderr
    assert "next of a later release, which is compatible with this one" in again.stderr
    with running_api(data_folder, REGISTRY_DATABASE__URL=url) as api:
        assert api.client.get("/readyz").json()["schema_revision"] == head
        assert len(api.client.get("/identities?limit=1000").json()["identities"]) == outcomes["register", 201]
