"""Compares new templates with those that an existing identity already has."""

import uuid
from collections.abc import Sequence
from dataclasses import replace

from pgvector.sqlalchemy import Vector
from sqlalchemy import ARRAY, Text, cast, func, literal, select, true
from sqlalchemy.ext.asyncio import AsyncConnection

from service.errors import AdditionRejected
from service.gallery.enrolment.records import NewEnrolment, NewTemplate
from service.gallery.storage.tables import template


async def matching(connection: AsyncConnection, identity_id: uuid.UUID, enrolment: NewEnrolment) -> NewEnrolment:
    """Returns the enrolment without the faces that do not match the locked identity.

    Raises:
        AdditionRejected: no face matches. The error says nothing about the identity.
    """
    if enrolment.accepts is None:
        return enrolment
    collection = enrolment.collection
    active = [item for item in enrolment.templates if item.model_id == collection.model_id]
    scores = await _scores(connection, collection.id, identity_id, active)
    accepted = {
        item.source_sha256
        for item, (score, count) in zip(active, scores, strict=True)
        if score is not None and enrolment.accepts(score, count)
    }
    if not accepted:
        raise addition_rejected()
    crops = {source: crop for source, crop in enrolment.encrypted_crops.items() if source in accepted}
    templates = [item for item in enrolment.templates if item.source_sha256 in accepted]
    return replace(enrolment, templates=templates, encrypted_crops=crops)


def addition_rejected() -> AdditionRejected:
    return AdditionRejected(
        "an identity with this external_id exists, and the picture does not match it; register the person under "
        "another external_id, or send a key with the scope `manage`"
    )


async def _scores(
    connection: AsyncConnection, collection_id: uuid.UUID, identity_id: uuid.UUID, new: Sequence[NewTemplate]
) -> list[tuple[float | None, int]]:
    """Returns for each template the highest cosine to the stored ones, None without any, and their number."""
    vectors = literal([str(item.embedding.tolist()) for item in new], ARRAY(Text))
    rows = func.unnest(vectors).table_valued("vector", with_ordinality="position", name="input").render_derived()
    vectors_by_position = select(rows.c.position, cast(rows.c.vector, Vector()).label("vector"))
    # Without MATERIALIZED PostgreSQL would parse the text again for every comparison.
    probe = vectors_by_position.cte("probe").prefix_with("MATERIALIZED")
    stored = (
        select(func.max(-template.c.embedding.max_inner_product(probe.c.vector)).label("score"), func.count())
        .where(template.c.collection_id == collection_id, template.c.identity_id == identity_id)
        .where(template.c.model_id == new[0].model_id)
        .lateral("stored")
    )
    statement = select(*stored.c).select_from(probe.join(stored, true())).order_by(probe.c.position)
    return [(row[0], row[1]) for row in await connection.execute(statement)]
