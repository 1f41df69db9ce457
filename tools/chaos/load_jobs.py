"""The load of bulk enrolments from zip archives, and of erasures of people that jobs enrol."""

import random
import time

from tools.chaos.ledger import JobRecord, Ledger
from tools.chaos.material import archive
from tools.chaos.requests import Client, Outcome

MAX_UNFINISHED = 4
ERASE = 0.4
"""Probability that a person of a job is erased while the job may still run."""
PAUSE_S = 0.5


class JobLoad:
    """Starts jobs, at most four at a time."""

    def __init__(self, client: Client, ledger: Ledger, rng: random.Random, collection: str) -> None:
        self._client, self._ledger, self._rng, self._collection = client, ledger, rng, collection
        self._params = {"collection": collection}
        self._number = 0

    def __call__(self) -> None:
        while not self._client.stopped.is_set():
            time.sleep(PAUSE_S)
            unfinished = self._unfinished()
            if unfinished is not None and unfinished < MAX_UNFINISHED:
                self._start()
            if self._ledger.jobs and self._rng.random() < ERASE:
                self._erase(self._rng.choice(self._ledger.jobs[-MAX_UNFINISHED:]))

    def settle(self, timeout_s: float) -> None:
        """Waits until all jobs of the collection have ended. Records a violation if they do not end in time."""
        deadline = time.monotonic() + timeout_s
        while (unfinished := self._unfinished()) != 0:
            if time.monotonic() > deadline:
                self._client.violate(f"{unfinished} jobs have not ended after {timeout_s:g} s")
                return
            time.sleep(PAUSE_S)

    def _unfinished(self) -> int | None:
        """Returns the number of unfinished jobs, or None if it cannot be read."""
        count = 0
        for state in ("waiting", "running"):
            reply = self._client.send("list jobs", "GET", "/jobs", params=self._params | {"state": state})
            if reply.outcome is not Outcome.ACKNOWLEDGED:
                return None
            count += len(reply.body["jobs"])
        return count

    def _start(self) -> None:
        self._number += 1
        content, pictures = archive(f"job-{self._number}", self._rng)
        params = self._params | {"force": "true", "detector": self._rng.choice(["yolo", "none"]), "face": "strongest"}
        headers = {"content-type": "application/zip"}
        reply = self._client.send(
            "start job", "POST", "/jobs/enrolments", params=params, content=content, headers=headers
        )
        if reply.outcome is Outcome.ACKNOWLEDGED:
            self._ledger.jobs.append(JobRecord(self._collection, reply.body["id"], pictures))
        elif reply.outcome.is_unknown:
            self._ledger.unknown_jobs += 1

    def _erase(self, job: JobRecord) -> None:
        """Erases a person of the job, if it is enrolled already."""
        external_id = self._rng.choice(list(job.pictures))
        reply = self._client.send(
            "list identities", "GET", "/identities", params=self._params | {"external_id": external_id}
        )
        if reply.outcome is not Outcome.ACKNOWLEDGED or not reply.body["identities"]:
            return
        identity_id = reply.body["identities"][0]["id"]
        path = f"/identities/{identity_id}"
        reply = self._client.send("erase", "DELETE", path, params=self._params)
        if reply.outcome is Outcome.ACKNOWLEDGED:
            job.erased.add(external_id)
            self._ledger.erase(identity_id)
        elif reply.outcome.is_unknown:
            job.maybe_erased.add(external_id)
