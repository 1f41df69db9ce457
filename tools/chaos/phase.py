"""One phase: mixed load while processes are killed, then rest, then the checks."""

import random
import subprocess
import sys
import threading
import time
import traceback
import uuid
from collections.abc import Callable, Iterator

from tools.chaos import checks, checks_jobs
from tools.chaos.checks import Check
from tools.chaos.installation import Installation
from tools.chaos.ledger import Ledger, Person
from tools.chaos.load_embeddings import EmbeddingLoad
from tools.chaos.load_jobs import JobLoad
from tools.chaos.load_pictures import MigrationLoad, PictureLoad
from tools.chaos.material import random_direction
from tools.chaos.requests import Client, Outcome, Statistics
from tools.chaos.stored import Stored, rows_of_collections
from tools.service_processes import own_environment

SETTLE_S = 180.0
SHARED_PEOPLE = 3
HTTP_SAMPLE = 100
DELETED_WITHIN_S = 60.0
Load = Callable[[], None]


class Phase:
    """Creates collections, runs the load in threads, and checks the result."""

    def __init__(self, installation: Installation, statistics: Statistics, rng: random.Random, clients: int) -> None:
        self.ledger = Ledger()
        self._installation, self._statistics, self._rng = installation, statistics, rng
        self._stopped = threading.Event()
        self._clients: list[Client] = []
        prefix = f"chaos-{uuid.uuid4().hex[:8]}"
        self._embeddings, self._pictures, self._jobs = (f"{prefix}-{part}" for part in ("e", "p", "j"))
        self._names = [self._embeddings, self._pictures, self._jobs]
        self._main = self._client()
        for name in self._names:
            body = {"name": name, "store_crops": name == self._pictures, "quality": "off"}
            # 409: an attempt whose response was lost has created it.
            self._main.insist("create collection", "POST", "/collections", (409,), json=body)
        self._migration = MigrationLoad(self._client(), self.ledger, self._pictures)
        self._job_load = JobLoad(self._client(), self.ledger, self._fork(), self._jobs)
        pictures = PictureLoad(self._client(), self.ledger, self._fork(), self._pictures)
        self._loads: list[Load] = [self._migration, self._job_load, pictures, *self._embedding_loads(clients)]

    def run(self, kill: Callable[[], bool]) -> bool:
        """Runs the load, calls `kill` until it returns False, and ends the load.

        Returns:
            False if the installation did not recover from a kill; it is a violation.
        """
        threads = [threading.Thread(target=self._guard, args=(load,), daemon=True) for load in self._loads]
        for thread in threads:
            thread.start()
        try:
            while kill():
                pass
        except TimeoutError as error:
            ends = [f"{name}: {process.log_end(800)}" for name, process in self._installation.processes.items()]
            self.ledger.violate("\n".join([str(error), *ends]))
            return False
        finally:
            self._stopped.set()
            for thread in threads:
                thread.join()
        self._job_load.settle(SETTLE_S)
        self._migration.settle(SETTLE_S)
        return True

    def close(self) -> None:
        """Closes the connections of all clients."""
        for client in self._clients:
            client.http.close()

    def check(self) -> list[Check]:
        """Returns the results of all checks. Deletes the collections of the phase."""
        return [*self.compare(), self._check_http(), self._check_deletion(), *self.observed()]

    def compare(self) -> list[Check]:
        """Compares the database with the ledger and verifies the audit chains."""
        self._stored = stored = Stored(self._installation.database.url, self._names)
        ledger = self.ledger
        return [
            checks.check_registrations(ledger, stored),
            checks.check_partial(stored),
            checks.check_erasures(ledger, stored),
            checks.check_merges(ledger, stored),
            checks.check_centroids(stored),
            checks_jobs.check_job_ends(ledger, stored),
            checks_jobs.check_job_rows(stored),
            checks_jobs.check_job_people(ledger, stored),
            checks_jobs.check_migration(self._pictures, stored),
            self._check_audit(),
        ]

    def observed(self) -> list[Check]:
        """Returns the violations that the clients and the killer have observed."""
        return [Check("responses during the load", self._statistics.counts.total(), self.ledger.violations)]

    def _embedding_loads(self, clients: int) -> Iterator[EmbeddingLoad]:
        shared = [
            self.ledger.add(Person(self._embeddings, f"shared-{number}", random_direction(self._rng)))
            for number in range(SHARED_PEOPLE)
        ]
        for number in range(clients):
            parts = self._client(), self.ledger, self._fork(), self._embeddings
            yield EmbeddingLoad(*parts, f"client-{number}", shared)

    def _client(self) -> Client:
        client = Client(self._installation.url, self._statistics, self.ledger.violate, self._stopped)
        self._clients.append(client)
        return client

    def _fork(self) -> random.Random:
        return random.Random(self._rng.random())  # noqa: S311

    def _guard(self, load: Load) -> None:
        """Runs a load, and reports an exception of the load itself, so that no thread ends silently."""
        try:
            load()
        except Exception:
            self.ledger.violate(f"the load of the chaos test failed: {traceback.format_exc()}")

    def _check_http(self) -> Check:
        """Reads a sample of the identities through the API."""
        stored, check = self._stored, Check("identities readable over HTTP")
        people = [key for key in stored.ids if key[0] != self._jobs]
        for name, external_id in self._rng.sample(people, min(HTTP_SAMPLE, len(people))):
            identity_id = stored.ids[name, external_id]
            reply = self._main.send("read", "GET", f"/identities/{identity_id}", params={"collection": name})
            expected = len(checks.active_templates(name, identity_id, stored))
            count = reply.body.get("template_count")
            check.expect(count == expected, f"GET of {name}/{external_id}: {count} templates instead of {expected}")
        return check

    def _check_audit(self) -> Check:
        """Verifies every chain with `identity-registry audit verify`."""
        check = Check("audit chains intact")
        result = subprocess.run(
            [sys.executable, "-m", "service", "audit", "verify"],
            env=own_environment() | self._installation.settings,
            capture_output=True,
            text=True,
            check=False,
        )
        for line in result.stdout.splitlines():
            check.expect("  intact, " in line, line)
        check.expect(result.returncode == 0 and bool(result.stdout), result.stderr.strip()[-500:])
        return check

    def _check_deletion(self) -> Check:
        """Deletes the collections of the phase and checks that no row of them remains."""
        check = Check("deleted collections leave no row")
        for name in self._names:
            reply = self._main.insist("delete collection", "DELETE", f"/collections/{name}", (404,))
            check.expect(reply.outcome is Outcome.ACKNOWLEDGED, f"deleting {name}: {reply.outcome}")
        deadline = time.monotonic() + DELETED_WITHIN_S
        ids = list(self._stored.collections.values())
        while any((rows := rows_of_collections(self._installation.database.url, ids)).values()):
            if time.monotonic() > deadline:
                break
            time.sleep(1)
        for table, count in rows.items():
            check.expect(count == 0, f"{table} has {count} rows of deleted collections")
        return check
