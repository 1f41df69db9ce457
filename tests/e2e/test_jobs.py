"""A bulk enrolment whose workers are killed with SIGKILL processes every row exactly once."""

import io
import os
import signal
import subprocess
import sys
import time
import zipfile
from pathlib import Path

import numpy as np
import psycopg
import pytest

from tests.databases import libpq
from tests.photos import COLLINS, HOPPER, encoded, pixels
from tests.server import running_api, wait_for

PEOPLE = 80
PER_PERSON = 3


def archive() -> bytes:
    """Returns an archive with a different picture of a real face for every row."""
    random = np.random.default_rng(0)
    faces = [pixels(path) for path in (COLLINS, HOPPER)]
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as file:
        for number in range(PEOPLE * PER_PERSON):
            face = faces[number % 2].astype(np.float32) * random.uniform(0.7, 1.1)
            file.writestr(f"p{number // PER_PERSON:04}/{number}.jpg", encoded(face.clip(0, 255).astype(np.uint8)))
    return buffer.getvalue()


def worker(data: Path, url: str) -> "subprocess.Popen[bytes]":
    settings = {
        "REGISTRY_DATA_DIR": str(data),
        "REGISTRY_CONFIG": str(data / "service.yaml"),
        "REGISTRY_DATABASE__URL": url,
        "REGISTRY_DATABASE__MAINTENANCE_INTERVAL_S": "1",
    }
    with (data / "jobs.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "service", "jobs"], env=os.environ | settings, stdout=log, stderr=log
        )


@pytest.mark.timeout(300)
def test_killed_workers_lose_no_row_and_enrol_no_row_twice(data_folder: Path, empty_database: str) -> None:
    environment = {
        "REGISTRY_JOBS__IN_API": "false",
        "REGISTRY_DATABASE__URL": empty_database,
        "REGISTRY_DATABASE__MIGRATE_ON_START": "true",
    }
    workers: list[subprocess.Popen[bytes]] = []
    with running_api(data_folder, **environment) as api:
        response = api.client.post(
            "/jobs/enrolments", content=archive(), headers={"content-type": "application/zip"}, params={"force": True}
        )
        path = response.headers["location"]

        def done() -> int:
            return int(api.client.get(path).json()["done"])

        try:
            workers = [worker(data_folder, empty_database), worker(data_folder, empty_database)]
            wait_for(lambda: done() > 30, 60)
            for process in workers:
                process.send_signal(signal.SIGKILL)
            for process in workers:
                process.wait()
            reached = done()
            assert reached < PEOPLE * PER_PERSON, "the job finished before its workers were killed"
            time.sleep(0.5)
            assert done() == reached
            workers = [worker(data_folder, empty_database)]
            wait_for(lambda: api.client.get(path).json()["state"] == "done", 120)
            job = api.client.get(path).json()
        finally:
            for process in workers:
                process.terminate()
            codes = [process.wait(40) for process in workers]
    log = (data_folder / "jobs.log").read_text()
    assert codes == [0], log
    assert job["counts"] == {"accepted": PEOPLE * PER_PERSON, "duplicate": 0, "rejected": 0, "failed": 0}, log
    with psycopg.connect(libpq(empty_database)) as connection:
        query = (
            "SELECT count(*), count(DISTINCT t.id), count(DISTINCT t.identity_id), count(r.number) FROM template t "
            "LEFT JOIN job_row r ON r.collection_id = t.collection_id AND r.template_id = t.id "
            "AND r.identity_id = t.identity_id"
        )
        total = PEOPLE * PER_PERSON
        assert connection.execute(query).fetchone() == (total, total, PEOPLE, total)
        wrong = "SELECT count(*) FROM centroid WHERE template_count <> %s"
        assert connection.execute(wrong, [PER_PERSON]).fetchone() == (0,)
    assert list((data_folder / "uploads").glob("*-*")) == []
