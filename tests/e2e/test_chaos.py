"""A short run of `make chaos`, and tests that its checks report faults in the data."""

import random
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

import psycopg
import pytest

from tools.chaos.checks import Check
from tools.chaos.installation import JOB_RUNNER, Installation
from tools.chaos.ledger import Fate
from tools.chaos.phase import Phase
from tools.chaos.requests import Statistics

LOAD_S = 6
FAULTS = {
    "acknowledged registrations present, none stored twice": (
        "DELETE FROM template WHERE (collection_id, identity_id) IN (SELECT collection_id, id FROM identity "
        "WHERE external_id LIKE 'shared-%')"
    ),
    "no identity stored partially": (
        "DELETE FROM centroid WHERE (collection_id, identity_id) IN (SELECT collection_id, id FROM identity "
        "WHERE external_id LIKE 'client-%' LIMIT 1)"
    ),
    "acknowledged erasures complete": (
        "INSERT INTO idempotency (collection_id, key, request_sha256, identity_id) SELECT i.collection_id, 'fault', "
        "'\\x00', a.identity_id FROM audit a JOIN identity i USING (collection_id) WHERE a.action = 'erase' "
        "AND EXISTS (SELECT FROM collection c WHERE c.id = a.collection_id AND c.name LIKE '%%-e') LIMIT 1"
    ),
    "centroids equal to what their templates give": (
        "UPDATE centroid c SET embedding = o.embedding FROM centroid o "
        "WHERE o.model_id = c.model_id AND o.identity_id <> c.identity_id"
    ),
    "job rows processed exactly once": (
        "UPDATE job_row r SET template_id = (SELECT o.template_id FROM job_row o WHERE o.job_id = r.job_id "
        "AND o.number <> r.number AND o.status = 'accepted' LIMIT 1)"
    ),
    "people of jobs enrolled with all pictures": (
        "DELETE FROM template WHERE (collection_id, id) IN (SELECT collection_id, template_id FROM job_row LIMIT 1)"
    ),
    "jobs ended": "UPDATE job SET state = 'running' WHERE kind = 'enrolment'",
    "audit chains intact": "UPDATE audit SET action = 'search' WHERE action = 'enrol'",
}


def violations(results: list[Check]) -> dict[str, list[str]]:
    return {check.name: check.violations for check in results if check.violations}


@pytest.mark.timeout(300)
def test_kills_lose_no_acknowledged_effect() -> None:
    command = [sys.executable, "-m", "tools.chaos", "--database", "embedded", "--kills", "8", "--seed", "18"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=Path(__file__).parents[2])
    assert result.returncode == 0, result.stdout[-6000:] + result.stderr[-2000:]
    assert "0 violations" in result.stdout


@pytest.mark.timeout(300)
def test_checks_report_faults_in_the_data(data_folder: Path) -> None:
    installation = Installation("embedded", data_folder)
    with installation.running(), closing(Phase(installation, Statistics(), random.Random(7), clients=2)) as phase:
        end = time.monotonic() + LOAD_S

        def wait() -> bool:
            time.sleep(0.2)
            has_erased = any(person.fate is Fate.ERASED for person in phase.ledger.people)
            return time.monotonic() < end or not (has_erased and phase.ledger.jobs)

        assert phase.run(wait)
        assert violations(phase.compare() + phase.observed()) == {}
        installation.processes[JOB_RUNNER].stop()  # it would finish the job that a fault sets to running
        before: dict[str, list[str]] = {}
        for name, statement in FAULTS.items():
            with psycopg.connect(installation.database.url) as connection:
                connection.execute("SET session_replication_role = replica")  # without foreign keys
                assert connection.execute(statement.encode()).rowcount > 0, name
            after = violations(phase.compare())
            assert len(after.get(name, [])) > len(before.get(name, [])), name
            before = after
