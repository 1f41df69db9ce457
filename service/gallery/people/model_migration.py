"""Model migration: a secondary model beside a collection's active one, and the exchange of the two."""

from sqlalchemy import delete, exists, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import Conflict, ModelIncomplete
from service.gallery.people import collections
from service.gallery.people.collections import Collection
from service.gallery.people.model_coverage import coverage, disable_nested_loops, required
from service.gallery.storage.tables import centroid, correction, template
from service.gallery.storage.tables import collection as collection_table


async def start(connection: AsyncConnection, collection: Collection, model_id: str, auto_activate: bool) -> Collection:
    """Sets the secondary model, which embeds every new face from now on.

    Args:
        collection: read with `lock="update"` in this transaction.

    Raises:
        Conflict: the model is active already, or another one is the secondary model.
    """
    if model_id == collection.model_id:
        raise Conflict(f"the model {model_id!r} is already the collection's active model", pointer="/model_id")
    if collection.secondary_model_id not in (None, model_id):
        raise Conflict(
            f"the model {collection.secondary_model_id!r} is the secondary model; delete it first with "
            f"DELETE /collections/{collection.name}/model-migration",
            pointer="/model_id",
        )
    return await collections.change(connection, collection.id, secondary_model_id=model_id, auto_activate=auto_activate)


async def activate(connection: AsyncConnection, collection: Collection, force: bool = False) -> Collection:
    """Exchanges active and secondary model. The exchange takes effect when the transaction commits.

    Args:
        collection: read with `lock="update"` in this transaction.
        force: exchange although identities or corrections are missing under the secondary model. Searches do not
            return these identities until they are enrolled again.

    Raises:
        Conflict: there is no secondary model.
        ModelIncomplete
    """
    model_id = required(collection)
    covered = await coverage(connection, collection)
    if not (covered.complete or force):
        raise ModelIncomplete(
            f"the model {model_id!r} lacks {covered.missing} of {covered.identities} identities and "
            f"{covered.corrections_missing} corrections. Register photos of the identities that "
            f"GET /collections/{collection.name}/model-migration/missing lists, or send `force`",
            missing=covered.missing,
            corrections_missing=covered.corrections_missing,
        )
    return await collections.change(
        connection, collection.id, model_id=model_id, secondary_model_id=collection.model_id, auto_activate=False
    )


async def drop(connection: AsyncConnection, collection: Collection, force: bool = False) -> dict[str, int]:
    """Deletes the secondary model's templates, centroids and corrections. Enrolments wait until it is done.

    Args:
        collection: read with `lock="update"` in this transaction.
        force: delete although identities have templates of the secondary model only.

    Returns:
        The number of deleted rows by kind.

    Raises:
        Conflict: there is no secondary model.
        ModelIncomplete
    """
    model_id = required(collection)
    if not force and (count := await _known_only_to_secondary(connection, collection, model_id)):
        raise ModelIncomplete(
            f"{count} identities have templates of the model {model_id!r} only, and no search would return them; "
            "register photos of them, or send `force=true`",
            missing=count,
        )
    await collections.change(connection, collection.id, secondary_model_id=None, auto_activate=False)
    deleted = {}
    for name, table in (("templates", template), ("centroids", centroid), ("corrections", correction)):
        statement = delete(table).where(table.c.collection_id == collection.id, table.c.model_id == model_id)
        deleted[name] = (await connection.execute(statement)).rowcount
    return deleted


async def awaiting_activation(connection: AsyncConnection) -> list[str]:
    """Returns the names of the collections whose secondary model is to be activated automatically."""
    table = collection_table.c
    statement = select(table.name).where(table.auto_activate).order_by(table.name)
    return list((await connection.execute(statement)).scalars())


async def _known_only_to_secondary(connection: AsyncConnection, collection: Collection, model_id: str) -> int:
    await disable_nested_loops(connection)
    active, secondary = centroid.alias("active"), centroid.alias("secondary")
    is_known = exists().where(
        active.c.collection_id == collection.id,
        active.c.identity_id == secondary.c.identity_id,
        active.c.model_id == collection.model_id,
    )
    statement = select(func.count()).where(
        secondary.c.collection_id == collection.id, secondary.c.model_id == model_id, ~is_known
    )
    return (await connection.execute(statement)).scalar_one()
