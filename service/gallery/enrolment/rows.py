"""The statements of an enrolment: the row of the identity, its templates and its centroids."""

import uuid
from collections.abc import Sequence
from datetime import datetime
from functools import cache
from typing import Any

import sqlalchemy as sa
from pgvector.sqlalchemy import Vector
from sqlalchemy.dialects.postgresql import JSONB, insert
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import CollectionNotFound
from service.gallery.enrolment.records import AddedTemplate, NewTemplate
from service.gallery.index import centroids
from service.gallery.index.centroids import Centroid
from service.gallery.storage.tables import identity, shown_columns, template
from service.names import as_sent, comparable

_INPUT: dict[str, Any] = dict.fromkeys(("model_id", "vector"), sa.Text)
_INPUT |= dict.fromkeys(("detection_score", "quality"), sa.REAL)
_INPUT |= {
    "manual": sa.Boolean,
    "position": sa.Integer,
    "id": sa.Uuid,
    "source_sha256": sa.LargeBinary,
    "box": sa.ARRAY(sa.REAL),
}
_COLLECTION, _IDENTITY = (sa.bindparam(name, type_=sa.Uuid()) for name in ("collection", "identity"))
_ROWS = sa.bindparam("rows", type_=JSONB)


async def lock_or_create(
    connection: AsyncConnection,
    collection_id: uuid.UUID,
    external_id: str,
    label: str | None = None,
    metadata: dict[str, Any] | None = None,
    retain_until: datetime | None = None,
    may_change: bool = True,
    named: bool = True,
) -> tuple[Any, bool] | None:
    """Inserts the identity or updates the existing one; its row stays locked until the transaction ends.

    The lock serialises concurrent enrolments of one identity, so that each computes the centroid from all templates.
    None leaves an existing identity's value unchanged. Returns the row, and True if it is new; None if an identity past
    its retention time has this external id.

    Args:
        may_change: set the values of an existing identity.
        named: of a new identity.

    Raises:
        CollectionNotFound: the collection was deleted while the pictures were observed.
    """
    updates = {"label": label, "metadata": metadata, "retain_until": retain_until}
    changes = {name: value for name, value in updates.items() if value is not None}
    new: dict[str, Any] = {
        "collection_id": collection_id,
        "id": uuid.uuid4(),
        "external_id": comparable(external_id),
        "external_id_sent": as_sent(external_id),
        "named": named,
    }
    new |= {"label": external_id, "metadata": {}} | changes
    statement = _upsert(frozenset(new), frozenset(changes if may_change else ()))
    try:
        row = (await connection.execute(statement, {f"new_{name}": value for name, value in new.items()})).one_or_none()
    except IntegrityError as error:
        raise CollectionNotFound("the collection was deleted during the request", pointer="/collection") from error
    return None if row is None else (row, row.created)


@cache
def _upsert(columns: frozenset[str], changed: frozenset[str]) -> Any:
    """Returns the statement that inserts an identity with these columns, or changes some of an existing one."""
    values = {name: sa.bindparam(f"new_{name}", type_=identity.c[name].type) for name in columns}
    insertion = insert(identity).values(values)
    # The clock's time as for new rows: the time of the transaction may be before the identity's creation. Citus permits
    # no call of a function here; `excluded` has the column's default.
    updated = {name: insertion.excluded[name] for name in changed} | {"updated_at": insertion.excluded.updated_at}
    key = ["collection_id", "external_id"]
    is_retained = identity.c.retain_until.is_(None) | (identity.c.retain_until > insertion.excluded.updated_at)
    insertion = insertion.on_conflict_do_update(index_elements=key, set_=updated, where=is_retained)
    return insertion.returning(*shown_columns(identity), sa.literal_column("(xmax = 0)").label("created"))


async def add_templates(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, templates: Sequence[NewTemplate]
) -> list[AddedTemplate]:
    """Stores templates of a locked identity and its centroids, in three statements.

    The first inserts the templates that are not stored yet. The second compares each with those that were stored
    before, and computes the normalised mean of all templates of each model. The third stores the means with their
    binary codes. Citus executes each of them on the node of the collection.
    """
    if not templates:
        return []
    parameters = {_COLLECTION.key: collection_id, _IDENTITY.key: identity_id, _ROWS.key: _rows(templates)}
    inserted = set((await connection.execute(_INSERTION, parameters)).scalars())
    rows = (await connection.execute(_COMPARISON, parameters)).all()
    means: dict[str, Centroid] = {}
    for row, new in zip(rows, templates, strict=True):
        if row.id in inserted and new.model_id not in means:
            means[new.model_id] = await centroids.from_mean(connection, collection_id, identity_id, row)
    await centroids.store(connection, collection_id, list(means.values()))
    return [
        AddedTemplate(
            row.id if row.id in inserted else None,
            _highest(row.stored_similarity, templates, index),
            row.template_count,
        )
        for index, row in enumerate(rows)
    ]


def _input() -> Any:
    """Returns the new templates as a table of one JSON parameter. SQLAlchemy cannot cache a VALUES of several rows."""
    columns = [sa.column(name, kind) for name, kind in _INPUT.items()]
    return sa.func.jsonb_to_recordset(_ROWS).table_valued(*columns, name="new").render_derived(with_types=True)


def _insertion() -> Any:
    new = _input()
    embedding = sa.cast(new.c.vector, Vector())
    target: dict[str, Any] = {
        "collection_id": identity.c.collection_id,  # Citus finds the node by the identity
        "identity_id": identity.c.id,
        "dim": sa.func.vector_dims(embedding),
        "embedding": embedding,
        **{name: new.c[name] for name in _INPUT if name not in {"position", "vector"}},
    }
    of_identity = identity.c.collection_id == _COLLECTION, identity.c.id == _IDENTITY
    selection = sa.select(*target.values()).select_from(identity.join(new, sa.true())).where(*of_identity)
    return insert(template).from_select(list(target), selection).on_conflict_do_nothing().returning(template.c.id)


def _comparison() -> Any:
    """Returns the second statement of `add_templates`; its rows are in the order of the templates."""
    new = sa.select(_input()).cte("new").prefix_with("MATERIALIZED")
    stored = (
        sa.select(template.c.id, template.c.model_id, template.c.embedding)
        .where(template.c.collection_id == _COLLECTION, template.c.identity_id == _IDENTITY)
        .where(template.c.model_id.in_(sa.select(new.c.model_id)))
        .cte("stored")
    )
    means = centroids.means_of(stored).cte("means")
    cosine = -stored.c.embedding.max_inner_product(sa.cast(new.c.vector, Vector()))
    others = stored.c.model_id == new.c.model_id, stored.c.id.not_in(sa.select(new.c.id))
    similarity = sa.select(sa.func.max(cosine)).where(*others)
    return (
        sa.select(new.c.id, similarity.scalar_subquery().label("stored_similarity"), means)
        .select_from(new.join(means, means.c.model_id == new.c.model_id))
        .order_by(new.c.position)
    )


# Built once: building a statement and computing its cache key take longer than executing it.
_INSERTION, _COMPARISON = _insertion(), _comparison()


def _rows(templates: Sequence[NewTemplate]) -> list[dict[str, Any]]:
    return [
        {
            "position": position,
            "id": str(uuid.uuid4()),
            "model_id": one.model_id,
            "vector": str(one.embedding.tolist()),
            "source_sha256": f"\\x{one.source_sha256.hex()}",
            "box": one.box,
            "detection_score": one.detection_score,
            "quality": one.quality,
            "manual": one.manual,
        }
        for position, one in enumerate(templates)
    ]


def _highest(stored: float | None, templates: Sequence[NewTemplate], index: int) -> float | None:
    """Returns the highest cosine of a template to the stored ones and to the others of the request."""
    new = templates[index]
    others = [item for position, item in enumerate(templates) if position != index and item.model_id == new.model_id]
    scores = [float(item.embedding @ new.embedding) for item in others]
    return max(scores if stored is None else [*scores, stored], default=None)
