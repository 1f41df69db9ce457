"""Re-embedding: what a collection's standby model makes of the crops of everybody who is enrolled."""

import asyncio
import itertools
import uuid
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import (
    Conflict,
    CropUnreadable,
    IdentityNotFound,
    NewPhotosNeeded,
    RegistryError,
    Unavailable,
)
from service.gallery import collections, crops, jobs, standby
from service.gallery.collections import Collection
from service.gallery.crops import Vault
from service.gallery.database import Database
from service.gallery.jobs import Job, JobPlace, JobRow, NewRow, RowResult, RowsTakenError, RowStatus
from service.gallery.standby import Remade
from service.inference.engine import Engine, Face
from service.jobs.portions import count, fail_rows, finish
from service.recognition.given import look_again

KIND = "re-embedding"
PEOPLE_TOGETHER = 8
"""Whose crops are read and embedded at once."""
CROPS_TOGETHER = 32


@dataclass(frozen=True)
class Reembedding:
    """Jobs that re-embed.

    Attributes:
        finished: called when a job has ended; the standby model may be ready to become active.
        parallel: groups of people that are worked on at once.
    """

    database: Database
    engine: Engine
    vault: Vault | None
    finished: Callable[[], Awaitable[None]]
    parallel: int = 4

    async def rows(self, job: Job) -> list[NewRow]:
        """One for each person of whom something is missing."""
        async with self.database.transaction(within=job.collection_id) as connection:
            people = await standby.unembedded(connection, await _collection(connection, job))
        return [NewRow(str(identity_id), external_id) for identity_id, external_id in people]

    async def open(self, job: Job) -> "ReembeddingSession":
        return ReembeddingSession(self, job)

    async def ended(self, place: JobPlace) -> None:
        await self.finished()


@dataclass(frozen=True)
class ReembeddingSession:
    """One task's hold on a re-embedding. Between two portions of rows nothing is kept."""

    kind: Reembedding
    job: Job

    @property
    def place(self) -> JobPlace:
        return JobPlace(self.job.collection_id, self.job.id)

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
            files, refused = await self._read(group)
            faces = await self._embed(files)
            for row in group:
                await self._store(row, faces[row.number], refused.get(row.number))
        except Unavailable:
            return False
        except RegistryError:
            raise
        except Exception:
            return await fail_rows(self.kind.database, KIND, self.place, group)
        return True

    async def _read(self, group: Sequence[JobRow]) -> tuple[dict[int, dict[bytes, bytes]], dict[int, RegistryError]]:
        """Crops by row and face of what is missing; and why some could not be read."""
        files: dict[int, dict[bytes, bytes]] = {}
        refused: dict[int, RegistryError] = {}
        async with self.kind.database.transaction(within=self.job.collection_id) as connection:
            found = await _collection(connection, self.job)
            for row in group:
                missing = await standby.missing_faces(connection, found, uuid.UUID(row.source))
                sealed = await crops.sealed_of(connection, found.id, uuid.UUID(row.source))
                files[row.number] = {}
                for source in missing & sealed.keys():
                    try:
                        files[row.number][source] = self._open(sealed[source], source)
                    except CropUnreadable as error:
                        refused[row.number] = error
        return files, refused

    def _open(self, sealed: bytes, source: bytes) -> bytes:
        if self.kind.vault is None:
            raise CropUnreadable("there are crops, and the service has no key to read them: set crops.key")
        return self.kind.vault.open(sealed, source)

    async def _embed(self, files: Mapping[int, Mapping[bytes, bytes]]) -> dict[int, dict[bytes, Remade]]:
        places = [(number, source, file) for number, theirs in files.items() for source, file in theirs.items()]
        made: dict[int, dict[bytes, Remade]] = {number: {} for number in files}
        for start in range(0, len(places), CROPS_TOGETHER):
            some = places[start : start + CROPS_TOGETHER]
            faces = await look_again(self.kind.engine, [file for _, _, file in some], self.job.request["model_id"])
            for (number, source, _), face in zip(some, faces, strict=True):
                if isinstance(face, Face):
                    made[number][source] = Remade(face.embedding, face.quality.score)
        return made

    async def _store(self, row: JobRow, faces: Mapping[bytes, Remade], refused: RegistryError | None) -> None:
        """What was made of a person, and that the row is done, in one transaction."""
        identity_id = uuid.UUID(row.source)
        try:
            async with self.kind.database.transaction(within=self.job.collection_id) as connection:
                await collections.hold_models(connection, self.job.collection_id)
                found = await _collection(connection, self.job)
                await standby.take_in(connection, found, identity_id, faces)
                left = len(await standby.missing_faces(connection, found, identity_id))
                result = _result(row, identity_id, len(faces), left, refused)
                await jobs.finish_rows(connection, self.place, [result])
            count(KIND, [result])
        except RowsTakenError:
            pass  # another process has done it, or the person was erased
        except IdentityNotFound as error:
            try:
                gone = RowResult(row.number, RowStatus.REJECTED, code=error.code, detail=error.detail)
                await finish(self.kind.database, KIND, self.place, [gone])
            except RowsTakenError:
                pass


async def _collection(connection: AsyncConnection, job: Job) -> Collection:
    """Raises Conflict: the model that the job is for does not stand by any more."""
    found = await collections.get(connection, await jobs.collection_name(connection, job.collection_id))
    if found.standby_model_id != job.request["model_id"]:
        raise Conflict(f"model {job.request['model_id']!r} does not stand by any more")
    return found


def _result(row: JobRow, identity_id: uuid.UUID, made: int, left: int, refused: RegistryError | None) -> RowResult:
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
