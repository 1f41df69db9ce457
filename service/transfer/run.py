"""Enrols the people of another system through the API, and reports on each picture."""

import csv
import tempfile
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from identity_registry import Registry
from identity_registry.responses.jobs import JobDetail
from service.transfer.archives import Archive, archives
from service.transfer.embeddings import StoredEmbeddings
from service.transfer.people import PersonPicture

MISSING = "missing"


@dataclass(frozen=True, slots=True)
class Outcome:
    """The outcome of a picture: `accepted`, `duplicate`, `rejected`, `failed`, or `missing` in the other system."""

    source: str
    person: str
    status: str
    detail: str


@dataclass(frozen=True)
class Transfer:
    """A transfer into a collection. `progress`: called with the state of each job."""

    registry: Registry
    collection: str
    face: str
    force: bool
    progress: Callable[[JobDetail], object]

    def run(self, pictures: Iterable[PersonPicture]) -> list[Outcome]:
        """Enrols all pictures, in jobs one after the other. A repetition stores nothing twice."""
        outcomes: list[Outcome] = []
        with tempfile.TemporaryDirectory(prefix="identity-registry-import-") as folder:
            for archive in archives(pictures, Path(folder)):
                outcomes += [Outcome(source, person, MISSING, reason) for source, person, reason in archive.missing]
                if archive.sources:
                    outcomes += self._enrol(archive)
        return outcomes

    def _enrol(self, archive: Archive) -> list[Outcome]:
        job = self.registry.enrol_archive(
            archive.path,
            collection=self.collection,
            face=self.face,  # type: ignore[arg-type]
            force=self.force,
        )
        rows = {name: (picture.source, picture.person) for name, picture in archive.sources.items()}
        return self._outcomes(job.id, rows)

    def run_embeddings(self, stored: StoredEmbeddings, model_id: str) -> list[Outcome]:
        """Enrols embeddings of the collection's model, which have no pictures and no quality."""
        with tempfile.TemporaryDirectory(prefix="identity-registry-import-") as folder:
            archive = Path(folder) / "embeddings.npz"
            arrays: dict[str, Any] = {"embeddings": stored.vectors, "external_id": np.array(stored.people)}
            if any(stored.labels):
                arrays["label"] = np.array([label or "" for label in stored.labels])
            np.savez(archive, **arrays)
            job = self.registry.enrol_embeddings(archive, model_id, collection=self.collection, force=self.force)
        pairs = zip(stored.sources, stored.people, strict=True)
        return self._outcomes(job.id, {f"embeddings[{number}]": pair for number, pair in enumerate(pairs)})

    def _outcomes(self, job_id: uuid.UUID, sources: Mapping[str, tuple[str, str]]) -> list[Outcome]:
        """Waits for a job. `sources`: source and person of each row, by the row's own source."""
        ended = self.registry.wait_for_job(job_id, collection=self.collection, progress=self.progress)
        rows = self.registry.list_job_rows(job_id, collection=self.collection, page_size=1000)
        known = {row.source: (row.status or ended.state, row.detail or ended.problem or "") for row in rows}
        without = ended.state, ended.problem or "the job has no row of this picture"
        return [Outcome(*source, *known.get(name, without)) for name, source in sources.items()]


def write_report(outcomes: Iterable[Outcome], file: Path) -> None:
    """Writes one line for each picture. A text that a spreadsheet would evaluate as a formula gets an apostrophe."""
    with file.open("w", newline="", encoding="utf-8") as opened:
        writer = csv.writer(opened)
        writer.writerow(("source", "person", "status", "detail"))
        for outcome in outcomes:
            cells = outcome.source, outcome.person, outcome.status, outcome.detail
            writer.writerow([f"'{cell}" if cell.startswith(("=", "+", "-", "@")) else cell for cell in cells])


def summary(outcomes: list[Outcome]) -> str:
    """Returns the numbers of people and of pictures by their outcome, and the most frequent reasons."""
    counts = Counter(outcome.status for outcome in outcomes)
    enrolled = {outcome.person for outcome in outcomes if outcome.status in ("accepted", "duplicate")}
    lines = [f"{len(enrolled):,} of {len({outcome.person for outcome in outcomes}):,} people are enrolled"]
    lines += [f"{count:,} pictures {status}" for status, count in counts.most_common()]
    reasons = Counter(_reason(outcome) for outcome in outcomes if outcome.status in ("rejected", "failed", MISSING))
    lines += [f"  {count:,}: {reason}" for reason, count in reasons.most_common(5)]
    return "\n".join(lines)


def _reason(outcome: Outcome) -> str:
    """Returns the first part of a detail, without the measures of the single picture."""
    return outcome.detail.partition(":")[0].partition(";")[0]
