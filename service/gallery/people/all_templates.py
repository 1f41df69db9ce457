"""Templates of all identities of a collection: pages by number, and single ones by their ids."""

import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from sqlalchemy import Select, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import TemplateNotFound
from service.gallery.people.collections import Collection
from service.gallery.people.retention import IS_RETAINED
from service.gallery.storage.tables import identity, shown_external_id, template
from service.names import comparable


@dataclass(frozen=True, slots=True)
class OwnedTemplate:
    """A template of the collection's active model, with its identity. `embedding`: (dim,), normalised."""

    id: uuid.UUID
    identity_id: uuid.UUID
    external_id: str
    embedding: npt.NDArray[np.float32]


async def get(connection: AsyncConnection, collection: Collection, template_id: uuid.UUID) -> OwnedTemplate:
    """Reads a template by its id. Raises TemplateNotFound."""
    columns = template.c.id, template.c.identity_id, shown_external_id(identity), template.c.embedding
    statement = _of_collection(select(*columns), collection).where(template.c.id == template_id)
    row = (await connection.execute(statement)).one_or_none()
    if row is None:
        raise TemplateNotFound(f"no identity has the template {template_id}")
    return OwnedTemplate(row.id, row.identity_id, row.external_id, np.asarray(row.embedding, np.float32))


async def page(
    connection: AsyncConnection, collection: Collection, number: int, size: int, external_id: str | None = None
) -> tuple[list[tuple[uuid.UUID, str]], int]:
    """Returns a page of (template id, external id), the oldest first, and the number of all templates.

    Args:
        number: of the page, from 0.
        external_id: only templates of the identity with this external id.
    """
    rows = _of_collection(select(template.c.id, shown_external_id(identity)), collection)
    total = _of_collection(select(func.count()), collection)
    if external_id is not None:
        condition = identity.c.external_id == comparable(external_id)
        rows, total = rows.where(condition), total.where(condition)
    rows = rows.order_by(template.c.created_at, template.c.id).offset(number * size).limit(size)
    found = [(row.id, row.external_id) for row in await connection.execute(rows)]
    return found, (await connection.execute(total)).scalar_one()


def _of_collection(statement: Select[Any], collection: Collection) -> Select[Any]:
    same = (identity.c.collection_id == template.c.collection_id) & (identity.c.id == template.c.identity_id)
    return (
        statement.select_from(template)
        .join(identity, same)
        .where(template.c.collection_id == collection.id, template.c.model_id == collection.model_id, IS_RETAINED)
    )
