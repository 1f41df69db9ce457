"""Re-embedding: what a collection's standby model makes of the crops of everybody who is enrolled."""

import asyncio
import contextlib
import itertools
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import (
    CollectionNotFound,
    Conflict,
    CropUnreadable,
    EngineUnavailable,
    NewPhotosNeeded,
    RegistryError,
    Unavailable,
)
from service.gallery.jobs import jobs
from service.gallery.jobs.jobs import Job, JobRef, JobRow, RowResult, RowsTakenError, RowStatus
from service.gallery.people import collections, crops, model_migration
from service.gallery.people.collections import Collection
from service.gallery.people.crops import CropCipher
from service.gallery.people.model_migration import ReembeddedFace
from service.gallery.storage.database import Database
from service.inference.engine import Engine, Face
from service.jobs.batches import Plan, count, fail_rows
from service.recognition.observation import look_again

KIND = "re-embedding"
PEOPLE_TOGETHER = 8
"""Whose crops are read and embedded at once."""
CROPS_TOGETHER = 8
_Files = dict[uuid.UUID, dict[bytes, bytes]]
"""Crops, by person and face."""
_Faces = dict[uuid.UUID, dict[bytes, ReembeddedFace]]


@dataclass(frozen=True)
class Reembedding:
    """Jobs that re-embed.

    Attributes:
        finished: called when a job has ended; the standby model may be ready to become active.
        parallel: groups of people that are worked on at once.
    """

    database: Database
    engine: Engine
    crop_cipher: CropCipher | None
    finished: Callable[[], Awaitable[None]]
    parallel: int = 4

    async def plan(self, job: Job) -> Plan:
        """One row for each person of whom something is missing."""

        async def write(connection: AsyncConnection, place: JobRef) -> int:
            found = await _collection(connection, job)
            await model_migration.disable_nested_loops(connection)
            return await jobs.select_rows(connection, place, model_migration.identities_to_reembed(found))

        return write

    async def open(self, job: Job) -> "ReembeddingSession":
        return ReembeddingSession(self, job)

    async def ended(self, place: JobRef) -> None:
        await self.finished()


@dataclass(frozen=True)
class ReembeddingSession:
    """One task's hold on a re-embedding. Between two portions of rows nothing is kept."""

    kind: Reembedding
    job: Job

    @property
    def place(self) -> JobRef:
        return JobRef(self.job.collection_id, self.job.id)

    def close(self) -> None:
        pass

    async def work(self, rows: Sequence[JobRow]) -> bool:
        """Several groups of people at once."""
        room = asyncio.Semaphore(self.kind.parallel)

        async def work(group: Sequence[JobRow]) -> bool:
            async with room:
                return await self._work(group)

        outcomes = await asyncio.gather(*(work(group) for group in _groups(rows)), return_exceptions=True)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        return all(outcomes)

    async def _work(self, group: Sequence[JobRow]) -> bool:
        try:
            await self._embed_again(group)
        except EngineUnavailable as error:
            if "workers_lost" not in error.extensions:
                return False
            if len(group) == 1:  # its crops bring down workers
                return await fail_rows(self.kind.database, KIND, self.place, group)
            return all([await self._work([row]) for row in group])
        except Unavailable:
            return False
        except (Conflict, CollectionNotFound):  # the job can't go on
            raise
        except Exception:
            return await fail_rows(self.kind.database, KIND, self.place, group)
        return True

    async def _embed_again(self, group: Sequence[JobRow]) -> None:
        files, refused = await self._read(group)
        faces = await self._embed(files)
        try:
            await self._store(group, faces, refused)
        except RowsTakenError:  # some of them are done, or were erased meanwhile
            for row in group:
                with contextlib.suppress(RowsTakenError):
                    await self._store([row], faces, refused)

    async def _read(self, group: Sequence[JobRow]) -> tuple[_Files, dict[uuid.UUID, RegistryError]]:
        """Crops of what is missing; and of whom some can't be read."""
        async with self.kind.database.transaction(collection_id=self.job.collection_id) as connection:
            found = await _collection(connection, self.job)
            missing = await model_migration.missing_faces(connection, found, [_person(row) for row in group])
            sealed = await crops.sealed_of(connection, found.id, missing)
        files: _Files = {identity_id: {} for identity_id in missing}
        refused: dict[uuid.UUID, RegistryError] = {}
        for (identity_id, source), data in sealed.items():
            try:
                files[identity_id][source] = self._open(data, source)
            except CropUnreadable as error:
                refused[identity_id] = error
        return files, refused

    def _open(self, sealed: bytes, source: bytes) -> bytes:
        if self.kind.crop_cipher is None:
            raise CropUnreadable("there are crops, and the service has no key to read them: set crops.key")
        return self.kind.crop_cipher.open(sealed, source)

    async def _embed(self, files: _Files) -> _Faces:
        places = [(person, source, file) for person, theirs in files.items() for source, file in theirs.items()]
        made: _Faces = {person: {} for person in files}
        for start in range(0, len(places), CROPS_TOGETHER):
            some = places[start : start + CROPS_TOGETHER]
            pictures = [file for _, _, file in some]
            faces = await look_again(self.kind.engine, pictures, self.job.request["model_id"], background=True)
            for (person, source, _), face in zip(some, faces, strict=True):
                if isinstance(face, Face):
                    made[person][source] = ReembeddedFace(face.embedding, face.quality.score)
        return made

    async def _store(self, group: Sequence[JobRow], faces: _Faces, refused: Mapping[uuid.UUID, RegistryError]) -> None:
        """What was made of people, and that their rows are done, in one transaction. Raises RowsTakenError."""
        people = [_person(row) for row in group]
        async with self.kind.database.transaction(collection_id=self.job.collection_id) as connection:
            await collections.share_model_lock(connection, self.job.collection_id)
            found = await _collection(connection, self.job)
            await model_migration.store_reembedded(connection, found, {person: faces[person] for person in people})
            left = await model_migration.missing_faces(connection, found, people)
            results = [
                _result(row, len(faces[person]), len(left[person]), refused.get(person))
                for row, person in zip(group, people, strict=True)
            ]
            await jobs.finish_rows(connection, self.place, results)
        count(KIND, results)


def _person(row: JobRow) -> uuid.UUID:
    return uuid.UUID(row.source)


async def _collection(connection: AsyncConnection, job: Job) -> Collection:
    """Raises Conflict: the model that the job is for does not stand by any more."""
    found = await collections.get(connection, await jobs.collection_name(connection, job.collection_id))
    if found.secondary_model_id != job.request["model_id"]:
        raise Conflict(f"model {job.request['model_id']!r} does not stand by any more")
    return found


def _result(row: JobRow, made: int, left: int, refused: RegistryError | None) -> RowResult:
    identity_id = _person(row)
    if left == 0:
        return RowResult(row.number, RowStatus.ACCEPTED, identity_id)
    error = refused or NewPhotosNeeded("no crops were kept of what was enrolled")
    if made:
        return RowResult(row.number, RowStatus.ACCEPTED, identity_id, detail=f"of {left} more: {error.detail}")
    return RowResult(row.number, RowStatus.REJECTED, identity_id, code=error.code, detail=error.detail)


def _groups(rows: Sequence[JobRow]) -> Iterator[list[JobRow]]:
    rest = iter(rows)
    while group := list(itertools.islice(rest, PEOPLE_TOGETHER)):
        yield group
