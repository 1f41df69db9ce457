"""Reads the groups of a grouping job, and enrols a group under a name."""

import uuid
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import GroupNotFound
from service.gallery.access.audit_entries import Action, Actor, Event
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.enrolment.rows import lock_or_create
from service.gallery.jobs import jobs
from service.gallery.jobs.records import JobRef
from service.gallery.people import erasure, groups, merge_split_move, pruning
from service.gallery.people.groups import Group, Member
from service.gallery.people.identities import Identity
from service.gallery.storage.database import LONG_S, Database
from service.recognition.candidates import ResponseLimits
from service.recognition.collection_access import in_collection
from service.recognition.decision import DecisionResolver
from service.recognition.operating_point import OperatingPoint

MAX_MERGED = 500
"""Maximum number of identities that one request merges. One takes about 5 ms."""


@dataclass(frozen=True, slots=True)
class NamedGroup:
    """The result of enrolling a group.

    Attributes:
        created: the identity is new.
        merged: number of identities that were merged into it.
        remaining: number of unnamed identities that are left in the group, because of `MAX_MERGED`.
    """

    identity: Identity
    created: bool
    merged: int
    remaining: int


@dataclass(frozen=True, slots=True)
class GroupName:
    """The person of a group. `omitted`: identities of the group that show somebody else."""

    external_id: str
    label: str | None = None
    metadata: dict[str, Any] | None = None
    omitted: Collection[uuid.UUID] = ()


@dataclass(frozen=True)
class GroupAdministration:
    """The use cases about groups.

    Attributes:
        max_templates: maximum number of templates of an identity.
        fmr: default false match rate of a job.
    """

    database: Database
    audit_trail: AuditTrail
    limits: ResponseLimits
    resolver: DecisionResolver
    max_templates: int
    fmr: float

    async def options(self, collection: str, requested: OperatingPoint | None) -> dict[str, Any]:
        """Returns the parameters of a grouping job: the lowest mean cosine, and the model to which it applies.

        Raises:
            CollectionNotFound, ModelNotLoaded, RateNotCalibrated
        """
        async with in_collection(self.database, collection, "/name") as (_, current):
            model_id = current.model_id
        point = requested or OperatingPoint("fmr", self.fmr)
        return {"threshold": self.resolver.policy_of(model_id).decide(point, None).threshold, "of_model": model_id}

    async def page(self, collection: str, job_id: uuid.UUID, limit: int, after: int) -> list[Group]:
        """Returns up to `limit` groups with a number above `after`. Raises CollectionNotFound, JobNotFound."""
        async with in_collection(self.database, collection, "/name", timeout_s=LONG_S) as (connection, current):
            job_ref = JobRef(current.id, job_id)
            await jobs.get(connection, job_ref)
            page = await groups.page(connection, job_ref, limit, after)
        self.limits.require_bytes(group.representative.metadata for group in page)
        return page

    async def members(self, collection: str, job_id: uuid.UUID, number: int, limit: int, after: int) -> list[Member]:
        """Returns up to `limit` members with a position above `after`.

        Raises:
            CollectionNotFound, JobNotFound
            GroupNotFound: the job has formed no group with this number, or all its identities are erased or merged.
        """
        async with in_collection(self.database, collection, "/name") as (connection, current):
            job_ref = JobRef(current.id, job_id)
            await jobs.get(connection, job_ref)
            page = await groups.members(connection, job_ref, number, limit, after)
            if not page and not await groups.members(connection, job_ref, number, 1):
                raise _not_found(number)
        self.limits.require_bytes(member.metadata for member in page)
        return page

    async def enrol(self, collection: str, job_id: uuid.UUID, number: int, name: GroupName, actor: Actor) -> NamedGroup:
        """Merges the unnamed identities of a group into the identity with this external id, which is created if needed.

        Named identities of the group stay as they are.

        Raises:
            CollectionNotFound, JobNotFound
            GroupNotFound: the group has no unnamed identity.
        """
        scope = in_collection(self.database, collection, "/name", lock="share", timeout_s=LONG_S)
        async with scope as (connection, current):
            job_ref = JobRef(current.id, job_id)
            await jobs.get(connection, job_ref)
            found = await groups.unnamed(connection, job_ref, number, name.omitted)
            if not found:
                raise _not_found(number)
            row, created = await self._target(connection, current.id, name)
            sources = [identity_id for identity_id in found if identity_id != row.id][:MAX_MERGED]
            await merge_split_move.merge(connection, current.id, row.id, sources)
            named = await pruning.limit(connection, current, row.id, self.max_templates)
            details = {"identities": sorted(map(str, sources)), "job": str(job_id), "created": created}
            await self.audit_trail.append(connection, current.id, [Event(Action.MERGE, actor, row.id, details)])
        return NamedGroup(named, created, len(sources), len(found) - len(sources))

    async def _target(self, connection: AsyncConnection, collection_id: uuid.UUID, name: GroupName) -> tuple[Any, bool]:
        """Returns the locked row of the identity with the external id, and True if it is new."""
        values = collection_id, name.external_id, name.label, name.metadata
        locked = await lock_or_create(connection, *values)
        if locked is None:
            await erasure.expire_external_id(connection, self.audit_trail, collection_id, name.external_id)
            locked = await lock_or_create(connection, *values)
            assert locked is not None  # the external id of the erased identity is free
        return locked


def _not_found(number: int) -> GroupNotFound:
    return GroupNotFound(f"the job has no group {number} with an identity that can be used")
