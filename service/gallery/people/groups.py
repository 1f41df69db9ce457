"""Groups of identities that may show the same person: the result of a grouping job."""

import uuid
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import REAL, Integer, Select, Text, Uuid, bindparam, func, insert, select, type_coerce
from sqlalchemy.dialects.postgresql import ARRAY, aggregate_order_by
from sqlalchemy.ext.asyncio import AsyncConnection

from service.gallery.jobs.records import JobRef
from service.gallery.people.retention import IS_RETAINED
from service.gallery.storage.tables import collection, group_member, identity, shown_external_id, template

MAX_NAMES = 10
"""Maximum number of named identities that a group lists."""


@dataclass(frozen=True, slots=True)
class Member:
    """An identity of a group.

    Attributes:
        position: 1 for the identity that is most similar to the group.
        similarity: cosine to the mean of the group, when it was formed.
        box: that of the face in its picture, x_min, y_min, x_max, y_max in pixels; None: the identity has no template.
    """

    position: int
    similarity: float
    identity_id: uuid.UUID
    external_id: str
    label: str
    named: bool
    metadata: dict[str, Any]
    box: list[float] | None


@dataclass(frozen=True, slots=True)
class Group:
    """A group.

    Attributes:
        number: 1 for the largest group.
        size: number of identities that are still in it: a merge, an erasure or a move removes an identity.
        names: external ids of up to `MAX_NAMES` named identities.
        representative: the remaining identity that is most similar to the group.
    """

    number: int
    size: int
    names: list[str]
    representative: Member


async def store(
    connection: AsyncConnection,
    job_ref: JobRef,
    ids: Sequence[uuid.UUID],
    numbers: Sequence[int],
    positions: Sequence[int],
    similarities: Sequence[float],
) -> int:
    """Stores the members of all groups, except for identities that were erased meanwhile. Returns their number."""
    columns: dict[str, Any] = {"identity_id": Uuid, "number": Integer, "position": Integer, "similarity": REAL}
    arrays = (bindparam(name, type_=ARRAY(kind)) for name, kind in columns.items())
    member = func.unnest(*arrays).table_valued(*columns, name="member").render_derived()
    existing = (
        select(identity.c.collection_id, bindparam("job_id", type_=Uuid), *(member.c[name] for name in columns))
        .join(member, member.c.identity_id == identity.c.id)
        .where(identity.c.collection_id == job_ref.collection_id)
        .with_for_update(read=True, key_share=True, of=identity)
    )
    statement = insert(group_member).from_select(["collection_id", "job_id", *columns], existing)
    values = dict(zip(columns, (ids, numbers, positions, similarities), strict=True))
    result = await connection.execute(
        statement.execution_options(preserve_rowcount=True), values | {"job_id": job_ref.id}
    )
    return result.rowcount


async def page(connection: AsyncConnection, job_ref: JobRef, limit: int, after: int = 0) -> list[Group]:
    """Returns up to `limit` groups with a number above `after`, the largest first. Empty groups are omitted."""
    ordered = aggregate_order_by(shown_external_id(identity), group_member.c.position)
    names = type_coerce(func.array_agg(ordered).filter(identity.c.named), ARRAY(Text))
    groups = (
        select(
            group_member.c.number,
            func.count().label("size"),
            func.min(group_member.c.position).label("first"),
            names.label("names"),
        )
        .join(identity, _of_identity())
        .where(*_of_job(job_ref), group_member.c.number > after, IS_RETAINED)
        .group_by(group_member.c.number)
        .order_by(group_member.c.number)
        .limit(limit)
        .subquery("groups")
    )
    statement = _members(job_ref).add_columns(
        groups.c.number, groups.c.size, groups.c.names[1:MAX_NAMES].label("names")
    )
    is_first = (group_member.c.number == groups.c.number) & (group_member.c.position == groups.c.first)
    statement = statement.join(groups, is_first).order_by(groups.c.number)
    return [Group(row.number, row.size, row.names or [], _member(row)) for row in await connection.execute(statement)]


async def members(
    connection: AsyncConnection, job_ref: JobRef, number: int, limit: int, after: int = 0
) -> list[Member]:
    """Returns up to `limit` members of a group with a position above `after`, in the order of their positions."""
    statement = _members(job_ref).where(group_member.c.number == number, group_member.c.position > after)
    return [_member(row) for row in await connection.execute(statement.order_by(group_member.c.position).limit(limit))]


async def unnamed(
    connection: AsyncConnection, job_ref: JobRef, number: int, omitted: Collection[uuid.UUID]
) -> list[uuid.UUID]:
    """Returns the unnamed identities of a group, except for the omitted ones, in the order of their positions."""
    statement = (
        select(identity.c.id)
        .join(group_member, _of_identity())
        .where(*_of_job(job_ref), group_member.c.number == number, IS_RETAINED, ~identity.c.named)
        .where(identity.c.id.not_in(omitted))
        .order_by(group_member.c.position)
    )
    return list((await connection.execute(statement)).scalars())


def _of_job(job_ref: JobRef) -> tuple[Any, Any]:
    return group_member.c.collection_id == job_ref.collection_id, group_member.c.job_id == job_ref.id


def _of_identity() -> Any:
    return (identity.c.collection_id == group_member.c.collection_id) & (identity.c.id == group_member.c.identity_id)


def _members(job_ref: JobRef) -> Select[Any]:
    box = (
        select(template.c.box)
        .where(
            template.c.collection_id == identity.c.collection_id,
            template.c.identity_id == identity.c.id,
            template.c.model_id
            == select(collection.c.model_id).where(collection.c.id == job_ref.collection_id).scalar_subquery(),
        )
        .order_by(template.c.created_at)
        .limit(1)
        .scalar_subquery()
    )
    columns = (
        group_member.c.position,
        group_member.c.similarity,
        group_member.c.identity_id,
        shown_external_id(identity),
    )
    return (
        select(*columns, identity.c.label, identity.c.named, identity.c.metadata, box.label("box"))
        .select_from(group_member)
        .join(identity, _of_identity())
        .where(*_of_job(job_ref), IS_RETAINED)
    )


def _member(row: Any) -> Member:
    return Member(**{field.name: getattr(row, field.name) for field in fields(Member)})
