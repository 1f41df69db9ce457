"""Re-embedding: computes the embeddings of a collection's secondary model. Each identity is a row of the job.

The model embeds the stored crops. If it only adds a cohort to the active model, the stored embeddings are corrected.
"""

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import (
    CollectionNotFound,
    Conflict,
    CropUnreadable,
    EngineUnavailable,
    RegistryError,
    Unavailable,
)
from service.gallery.jobs import rows as job_rows
from service.gallery.jobs.records import Job, JobRef, JobRow, RowsTakenError
from service.gallery.people import collections, crops, model_coverage
from service.gallery.people.collections import Collection, Lock
from service.gallery.people.crop_cipher import CropCipher
from service.gallery.people.model_coverage import ReembeddedFace
from service.gallery.storage.database import Database
from service.inference.engine import Engine, Face
from service.jobs.batches import ROWS_PER_READ, ROWS_PER_TASK, RowWriter, count, fail_rows
from service.jobs.cohort_models import CohortModel, Faces
from service.jobs.reembedding_results import identity_id_of, result_of
from service.recognition.samples import re_embed

KIND = "re-embedding"
IDENTITIES_PER_GROUP = 8
"""Identities whose crops are read in one transaction and stored in another."""
CROPS_PER_REQUEST = 8
_Crops = dict[uuid.UUID, dict[bytes, bytes]]
"""Decrypted crops by identity and `source_sha256`."""


@dataclass(frozen=True)
class Reembedding:
    """The job kind that re-embeds stored crops.

    Attributes:
        crop_cipher: decrypts crops; None if no key is configured.
        cohort_models: by model id.
        on_finished: called when a job has finished, since the secondary model may now be ready for activation.
        parallel: number of groups of identities that one task processes concurrently.
        isolated: rows (job id, number) whose crops were part of a request that crashed workers.
    """

    database: Database
    engine: Engine
    crop_cipher: CropCipher | None
    on_finished: Callable[[], Awaitable[None]]
    cohort_models: Mapping[str, CohortModel] = field(default_factory=dict)
    parallel: int = 4
    isolated: set[tuple[uuid.UUID, int]] = field(default_factory=set)
    rows_per_task: int = ROWS_PER_TASK

    async def plan_rows(self, job: Job) -> RowWriter:
        """Plans one row for each identity that lacks a template or a correction under the secondary model."""

        async def write_rows(connection: AsyncConnection, job_ref: JobRef) -> int:
            collection = await _collection(connection, job)
            await model_coverage.disable_nested_loops(connection)
            selection = model_coverage.identities_to_reembed(collection)
            total = await job_rows.insert_selected_rows(connection, job_ref, selection)
            # Erasures that started during the insertion have not seen its rows. This lock waits for their end.
            await _collection(connection, job, lock="update")
            await job_rows.delete_rows_of_missing(connection, job_ref)
            return total

        return write_rows

    async def open(self, job: Job) -> "ReembeddingSession":
        return ReembeddingSession(self, job)

    async def finished(self, job_ref: JobRef) -> None:
        await self.on_finished()


@dataclass(frozen=True)
class ReembeddingSession:
    """Re-embeds rows of one job. It holds no open resources."""

    kind: Reembedding
    job: Job

    @property
    def job_ref(self) -> JobRef:
        return JobRef(self.job.collection_id, self.job.id)

    @property
    def rows_at_once(self) -> int:
        return ROWS_PER_READ

    def close(self) -> None:
        pass

    async def work(self, rows: Sequence[JobRow]) -> bool:
        """Re-embeds rows, several groups concurrently. Returns False if some rows must be tried again later."""
        semaphore = asyncio.Semaphore(self.kind.parallel)

        async def work(group: Sequence[JobRow]) -> bool:
            async with semaphore:
                return await self._work(group)

        outcomes = await asyncio.gather(*(work(group) for group in _groups(rows)), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return all(outcomes)

    async def _work(self, group: Sequence[JobRow]) -> bool:
        try:
            await self._reembed(group)
        except EngineUnavailable as error:
            if "workers_lost" not in error.extensions:
                return False
            return await self._isolate(group)
        except Unavailable:
            return False
        except (Conflict, CollectionNotFound):  # the job as a whole cannot continue
            raise
        except Exception:
            return await fail_rows(self.kind.database, KIND, self.job_ref, group)
        return True

    async def _isolate(self, group: Sequence[JobRow]) -> bool:
        """Handles a group that crashed workers. Must be called in the `except` block.

        Sends each identity alone, and marks an identity as failed that crashes workers again: one lost worker may have
        been stopped for another reason. Returns False if a row must be tried again later.
        """
        keys = {(self.job.id, row.number) for row in group}
        if len(group) == 1 and keys <= self.kind.isolated:
            self.kind.isolated.difference_update(keys)
            return await fail_rows(self.kind.database, KIND, self.job_ref, group)
        self.kind.isolated.update(keys)
        return len(group) > 1 and all([await self._work([row]) for row in group])

    async def _reembed(self, group: Sequence[JobRow]) -> None:
        faces, errors = await self._corrected(group), dict[uuid.UUID, RegistryError]()
        if faces is None:
            files, errors = await self._read(group)
            faces = await self._embed(files)
        try:
            await self._store(group, faces, errors)
        except RowsTakenError:  # another task has finished some of the rows, or identities were erased
            for row in group:
                with contextlib.suppress(RowsTakenError):
                    await self._store([row], faces, errors)

    async def _corrected(self, group: Sequence[JobRow]) -> Faces | None:
        """Returns the corrected embeddings of missing faces; None if the model is not the active one with a cohort."""
        model = self.kind.cohort_models.get(self.job.request["model_id"])
        if model is None:
            return None
        async with self.kind.database.transaction(collection_id=self.job.collection_id) as connection:
            collection = await _collection(connection, self.job)
            return await model.correct_stored(connection, collection, [identity_id_of(row) for row in group])

    async def _read(self, group: Sequence[JobRow]) -> tuple[_Crops, dict[uuid.UUID, RegistryError]]:
        """Returns the crops of missing faces, and an error for each identity with an unreadable crop."""
        async with self.kind.database.transaction(collection_id=self.job.collection_id) as connection:
            collection = await _collection(connection, self.job)
            missing = await model_coverage.missing_faces(connection, collection, [identity_id_of(row) for row in group])
            encrypted = await crops.read(connection, collection.id, missing)
        files: _Crops = {identity_id: {} for identity_id in missing}
        errors: dict[uuid.UUID, RegistryError] = {}
        for (identity_id, source), data in encrypted.items():
            try:
                files[identity_id][source] = self._decrypt(data, source)
            except CropUnreadable as error:
                errors[identity_id] = error
        return files, errors

    def _decrypt(self, encrypted: bytes, source: bytes) -> bytes:
        if self.kind.crop_cipher is None:
            raise CropUnreadable("the collection has stored crops, but the service has no key; set crops.key")
        return self.kind.crop_cipher.decrypt(encrypted, source)

    async def _embed(self, files: _Crops) -> Faces:
        inputs = [
            (identity_id, source, file)
            for identity_id, crop_files in files.items()
            for source, file in crop_files.items()
        ]
        reembedded: Faces = {identity_id: {} for identity_id in files}
        for start in range(0, len(inputs), CROPS_PER_REQUEST):
            part = inputs[start : start + CROPS_PER_REQUEST]
            pictures = [file for _, _, file in part]
            faces = await re_embed(self.kind.engine, pictures, self.job.request["model_id"], background=True)
            for (identity_id, source, _), face in zip(part, faces, strict=True):
                if isinstance(face, Face):
                    reembedded[identity_id][source] = ReembeddedFace(face.embedding, face.quality.score)
        return reembedded

    async def _store(self, group: Sequence[JobRow], faces: Faces, errors: Mapping[uuid.UUID, RegistryError]) -> None:
        """Stores the embeddings of identities and the results of their rows in one transaction.

        Raises:
            RowsTakenError: a row already has a result or no longer exists; nothing is stored.
        """
        identity_ids = [identity_id_of(row) for row in group]
        async with self.kind.database.transaction(collection_id=self.job.collection_id) as connection:
            collection = await _collection(connection, self.job, lock="share")
            new_faces = {identity_id: faces[identity_id] for identity_id in identity_ids}
            await model_coverage.store_reembedded(connection, collection, new_faces)
            missing = await model_coverage.missing_faces(connection, collection, identity_ids)
            results = [
                result_of(row, len(faces[identity_id]), len(missing[identity_id]), errors.get(identity_id))
                for row, identity_id in zip(group, identity_ids, strict=True)
            ]
            await job_rows.finish_rows(connection, self.job_ref, results)
        count(KIND, results)


async def _collection(connection: AsyncConnection, job: Job, lock: Lock | None = None) -> Collection:
    """Returns the collection of a job.

    Raises:
        CollectionNotFound
        Conflict: the model of the job is no longer the secondary model of the collection.
    """
    collection = await collections.get_by_id(connection, job.collection_id, lock)
    if collection.secondary_model_id != job.request["model_id"]:
        raise Conflict(f"model {job.request['model_id']!r} is no longer the secondary model of the collection")
    return collection


def _groups(rows: Sequence[JobRow]) -> Iterator[list[JobRow]]:
    rest = iter(rows)
    while group := list(itertools.islice(rest, IDENTITIES_PER_GROUP)):
        yield group
