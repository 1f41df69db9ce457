"""Bulk enrolment of embeddings: enrols the rows of a NumPy archive. New identities are stored in a few statements."""

import asyncio
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import CollectionNotFound, InvalidEmbedding, RegistryError, Unavailable
from service.gallery.access.audit_entries import Action, Actor, Event
from service.gallery.enrolment import bulk
from service.gallery.enrolment.bulk import NewIdentities
from service.gallery.jobs import rows as job_rows
from service.gallery.jobs.records import Job, JobRef, JobRow, NewRow, RowResult, RowsTakenError, RowStatus
from service.gallery.people import collections
from service.gallery.people.collections import Collection
from service.inference.engine import SuppliedEmbedding
from service.jobs.batches import RowWriter, count, fail_rows, finish
from service.jobs.bulk_enrolment import BulkEnrolment
from service.jobs.sample_enrolment import enrol_samples, rejected
from service.jobs.sources.embeddings import EmbeddingArchive
from service.jobs.sources.row_checks import checked, with_metadata
from service.names import comparable
from service.recognition import samples
from service.recognition.policies import DuplicatePolicy, QualityMode
from service.recognition.supplied_embeddings import MAX_LENGTH_ERROR

KIND = "embedding-enrolment"
MAX_ROWS_PER_TRANSACTION, MAX_BYTES_PER_TRANSACTION = 2_500, 4 * 1024**2
"""Maximum number of rows, and size of their embeddings, that one transaction stores."""
TRANSACTIONS = 2
"""Number of transactions of one task at the same time."""


@dataclass(frozen=True)
class EmbeddingEnrolment:
    """The job kind that enrols embeddings. `pictures`: what it has in common with enrolments of pictures."""

    pictures: BulkEnrolment
    open_archive: Callable[[uuid.UUID], EmbeddingArchive]
    rows_per_task: int = 10_000

    async def plan_rows(self, job: Job) -> RowWriter:
        archive = await asyncio.to_thread(self.open_archive, job.id)

        async def write_rows(connection: AsyncConnection, job_ref: JobRef) -> int:
            read = _read_ahead(archive, 0)
            try:
                for first in range(0, archive.rows, archive.part_rows):
                    rows, read = await read, _read_ahead(archive, first + archive.part_rows)
                    await job_rows.insert_rows(connection, job_ref, rows, first)
                return archive.rows
            finally:
                await asyncio.wait([read])  # a thread that reads must not find the file closed
                archive.close()

        return write_rows

    async def open(self, job: Job) -> "EmbeddingSession":
        return EmbeddingSession(self.pictures, job, await asyncio.to_thread(self.open_archive, job.id))

    async def finished(self, job_ref: JobRef) -> None:
        await self.pictures.finished(job_ref)


@dataclass(frozen=True)
class EmbeddingSession:
    """Enrols rows of one job while its archive is open."""

    kind: BulkEnrolment
    job: Job
    archive: EmbeddingArchive

    @property
    def job_ref(self) -> JobRef:
        return JobRef(self.job.collection_id, self.job.id)

    @property
    def rows_at_once(self) -> int:
        return TRANSACTIONS * self._rows_per_transaction

    def close(self) -> None:
        self.archive.close()

    async def work(self, rows: Sequence[JobRow]) -> bool:
        """Enrols rows, in several transactions at the same time. Returns False if some must be tried again later."""
        size = self._rows_per_transaction
        parts = [rows[start : start + size] for start in range(0, len(rows), size)]
        outcomes = await asyncio.gather(*map(self._work, parts), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return all(outcomes)

    @property
    def _rows_per_transaction(self) -> int:
        row_bytes = self.archive.dim * np.dtype(np.float32).itemsize
        return max(1, min(MAX_ROWS_PER_TRANSACTION, MAX_BYTES_PER_TRANSACTION // row_bytes))

    async def _work(self, rows: Sequence[JobRow]) -> bool:
        try:
            samples_of = await asyncio.to_thread(self._samples, rows)
            await self._finish([item for item in samples_of if isinstance(item, RowResult)])
            valid = [pair for pair in zip(rows, samples_of, strict=True) if not isinstance(pair[1], RowResult)]
            await self._enrol(valid)  # type: ignore[arg-type]
        except RowsTakenError:
            pass  # a task that was considered dead is still running and has finished these rows
        except (Unavailable, CollectionNotFound):
            return False
        except RegistryError:
            raise
        except Exception:
            return await fail_rows(self.kind.database, self.job.kind, self.job_ref, rows)
        return True

    def _samples(self, rows: Sequence[JobRow]) -> list[SuppliedEmbedding | RowResult]:
        """Returns the normalised embedding of each row, or the reason why it cannot be used."""
        first, last = rows[0].number, rows[-1].number + 1
        vectors = self.archive.embeddings(first, last)[[row.number - first for row in rows]]
        lengths = np.linalg.norm(vectors.astype(np.float64), axis=1)
        usable = np.abs(lengths - 1) <= MAX_LENGTH_ERROR  # False for NaN
        normalised = (vectors / np.where(usable, lengths, 1)[:, None]).astype(np.float32)
        model_id = self.job.request["of_model"]
        return [
            SuppliedEmbedding(vector, model_id)
            if is_usable
            else rejected(
                row, InvalidEmbedding(f"the embedding has length {length:.4g}; normalise embeddings to length 1")
            )
            for row, vector, length, is_usable in zip(rows, normalised, lengths, usable, strict=True)
        ]

    async def _enrol(self, valid: Sequence[tuple[JobRow, SuppliedEmbedding]]) -> None:
        with_ids = list({comparable(row.external_id): (row, sample) for row, sample in reversed(valid)}.values())
        enrolled = await self._store_new(with_ids)
        rest = [(row, sample) for row, sample in valid if row.number not in enrolled]
        if not rest:
            return
        async with self.kind.database.transaction(collection_id=self.job.collection_id) as connection:
            name = (await collections.get_by_id(connection, self.job.collection_id)).name
        for row, sample in rest:
            await enrol_samples(self.kind.enroller, self.kind.database, self.job, name, [row], [sample])

    def _needs_no_checks(self, collection: Collection) -> bool:
        """Returns True if the collection enrols faces without pictures and does not search for duplicates."""
        limits = self.kind.enroller.limits[QualityMode(collection.quality)]
        is_accepted = limits is None or self.job.request["force"]
        is_current = collection.model_id == self.job.request["of_model"]
        return is_current and is_accepted and DuplicatePolicy(collection.duplicates) is DuplicatePolicy.ALLOW

    async def _store_new(self, valid: Sequence[tuple[JobRow, SuppliedEmbedding]]) -> set[int]:
        """Stores the identities that do not exist yet, if they need no checks. Returns the numbers of their rows."""
        enroller, model_id = self.kind.enroller, self.job.request["of_model"]
        try:
            async with self.kind.database.transaction() as connection:
                collection = await collections.get_by_id(connection, self.job.collection_id, lock="share")
                if not valid or not self._needs_no_checks(collection):
                    return set()
                names = [comparable(row.external_id) for row, _ in valid]
                known = await bulk.existing(connection, collection.id, names)
                new = [pair for name, pair in zip(names, valid, strict=True) if name not in known]
                if not new:
                    return set()
                identities = await asyncio.to_thread(_new_identities, new)
                if await bulk.store(connection, self.job_ref, model_id, identities) != len(new):
                    raise RowsTakenError
                actor = Actor.from_json(self.job.request["actor"])
                details = {"created": True, "forced": self.job.request["force"], "accepted": 1}
                now = datetime.now(UTC)
                events = [Event(Action.ENROL, actor, identity_id, details, now) for identity_id in identities.ids]
                await enroller.store.audit_trail.append(connection, collection.id, events)
        except IntegrityError:
            return set()  # a concurrent request has created one of them
        results = [RowResult(row.number, RowStatus.ACCEPTED) for row, _ in new]
        count(self.job.kind, results)
        return {row.number for row, _ in new}

    async def _finish(self, results: Sequence[RowResult]) -> None:
        await finish(self.kind.database, self.job.kind, self.job_ref, results)


def _read_ahead(archive: EmbeddingArchive, first: int) -> "asyncio.Task[list[NewRow]]":
    """Reads the part of the rows from `first` while the database stores the part before it."""
    return asyncio.create_task(asyncio.to_thread(_new_rows, archive, first))


def _new_rows(archive: EmbeddingArchive, first: int) -> list[NewRow]:
    """Returns the part of the rows from `first`; [] after the last row."""
    last = max(first, min(first + archive.part_rows, archive.rows))
    names = archive.texts("external_id", first, last)
    labels, metadata = archive.texts("label", first, last), archive.texts("metadata", first, last)
    return [
        _new_row(number, name or "", label, text)
        for number, name, label, text in zip(range(first, last), names, labels, metadata, strict=True)
    ]


def _new_row(number: int, external_id: str, label: str | None, metadata: str | None) -> NewRow:
    row = checked(NewRow(f"embeddings[{number}]", external_id, label))
    return row if metadata is None or row.status is not None else checked(with_metadata(row, metadata))


def _new_identities(new: Sequence[tuple[JobRow, SuppliedEmbedding]]) -> NewIdentities:
    embeddings = np.stack([sample.vector for _, sample in new])
    return NewIdentities(
        np.array([row.number for row, _ in new], np.int32),
        bulk.random_ids(len(new)),
        [samples.embedding_hash(sample) for _, sample in new],
        embeddings,
    )
