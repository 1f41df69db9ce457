"""`python -m tools.bench_large_identities`: measures operations whose cost grows with a collection or an identity.

    python -m tools.bench_large_identities --identities 1200000 --templates 100000

Fills a temporary PostgreSQL with one collection of many identities, which it deletes, and with two identities of many
templates, which it merges and splits.
"""

import asyncio
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from sqlalchemy import text

from service.embedded_postgres.lease import EmbeddedPostgres
from service.gallery.access.audit_entries import SERVICE
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.people import collection_deletion, collections
from service.gallery.storage import schema
from service.gallery.storage.database import Database
from service.recognition.candidates import ResponseLimits
from service.recognition.collections import CollectionAdministration
from service.recognition.identities import IdentityAdministration
from tools.folders import database_folder

DIM = 128
MODEL = "bench"
FILL_TIMEOUT_S = 3600
ALL_TEMPLATES, KEPT_TEMPLATES = 10**7, 64
SPLIT_TEMPLATES = 1000
IDENTITIES = (
    "INSERT INTO identity (collection_id, id, external_id, label) "
    "SELECT :collection, gen_random_uuid(), n::text, n::text FROM generate_series(1, :count) n",
    "INSERT INTO template (collection_id, identity_id, model_id, dim, embedding, id, source_sha256, box, "
    "detection_score) SELECT collection_id, id, :model, :dim, CAST(array_fill(1, ARRAY[:dim]) AS vector), "
    "gen_random_uuid(), sha256(external_id::bytea), '{0,0,1,1}', 1 FROM identity WHERE collection_id = :collection",
    "INSERT INTO centroid (collection_id, identity_id, model_id, dim, embedding, template_count) SELECT collection_id, "
    "id, :model, :dim, CAST(array_fill(1, ARRAY[:dim]) AS vector), 1 FROM identity WHERE collection_id = :collection",
)
TEMPLATES = (
    "INSERT INTO identity (collection_id, id, external_id, label) "
    "VALUES (:collection, :identity, CAST(:identity AS text), 'large')",
    # `n * 0` makes PostgreSQL compute a new embedding for each row.
    "INSERT INTO template (collection_id, identity_id, model_id, dim, embedding, id, source_sha256, box, "
    "detection_score) SELECT :collection, :identity, :model, :dim, CAST(ARRAY(SELECT random() - 0.5 "
    "FROM generate_series(1, :dim + n * 0)) AS vector), gen_random_uuid(), "
    "sha256((CAST(:identity AS text) || n)::bytea), '{0,0,1,1}', 1 FROM generate_series(1, :count) n",
)


def main(
    identities: Annotated[int, typer.Option(help="Number of identities of the deleted collection.")] = 100_000,
    templates: Annotated[int, typer.Option(help="Number of templates of each merged identity.")] = 20_000,
) -> None:
    """Measure the deletion of a large collection, and merging and splitting large identities."""
    with database_folder() as folder, EmbeddedPostgres(folder / "postgres") as url:
        schema.upgrade(url)
        asyncio.run(_measure(url, identities, templates))


async def _measure(url: str, identities: int, templates: int) -> None:
    database, audit = Database(url), AuditTrail(b"k" * 32)
    try:
        async with database.transaction() as connection:
            await collections.add_model(connection, MODEL, DIM, "0" * 64)
        await _delete(database, audit, identities)
        await _merge_and_split(database, audit, templates)
    finally:
        await database.close()


async def _delete(database: Database, audit: AuditTrail, count: int) -> None:
    collection_id = await _create(database, "deleted")
    await _fill(database, collection_id, IDENTITIES, count=count)
    with _measured(f"request that deletes {count:,} identities"):
        await CollectionAdministration(database, audit, None, MODEL, False).delete("deleted", SERVICE)
    with _measured("rest of the deletion, in the background"):
        await collection_deletion.delete_rows(database, collection_id)


async def _merge_and_split(database: Database, audit: AuditTrail, count: int) -> None:
    collection_id, kept, other = await _create(database, "merged"), uuid.uuid4(), uuid.uuid4()
    for identity_id in (kept, other):
        await _fill(database, collection_id, TEMPLATES, count=count, identity=identity_id)
    unlimited = IdentityAdministration(database, audit, None, ResponseLimits(), ALL_TEMPLATES)
    limited = IdentityAdministration(database, audit, None, ResponseLimits(), KEPT_TEMPLATES)
    with _measured(f"merge of {count:,} and {count:,} templates"):
        await unlimited.merge("merged", kept, [other], SERVICE)
    async with database.transaction(collection_id=collection_id) as connection:
        query = text("SELECT id FROM template WHERE identity_id = :identity LIMIT :count")
        moved = (await connection.execute(query, {"identity": kept, "count": SPLIT_TEMPLATES})).scalars().all()
    with _measured(f"split of {SPLIT_TEMPLATES:,} templates"):
        new = await unlimited.split("merged", kept, list(moved), "new", None, None, SERVICE)
    with _measured(f"merge that keeps {KEPT_TEMPLATES} templates of {2 * count:,}"):
        await limited.merge("merged", kept, [new.id], SERVICE)


async def _create(database: Database, name: str) -> uuid.UUID:
    async with database.transaction() as connection:
        return (await collections.create(connection, name, MODEL)).id


async def _fill(database: Database, collection_id: uuid.UUID, statements: tuple[str, ...], **values: object) -> None:
    parameters = {"collection": collection_id, "model": MODEL, "dim": DIM} | values
    async with database.transaction(collection_id=collection_id, timeout_s=FILL_TIMEOUT_S) as connection:
        for statement in statements:
            used = {name: value for name, value in parameters.items() if f":{name}" in statement}
            await connection.execute(text(statement), used)


@contextmanager
def _measured(what: str) -> Iterator[None]:
    started = time.perf_counter()
    yield
    typer.echo(f"{what}: {time.perf_counter() - started:.1f} s")


if __name__ == "__main__":
    typer.run(main)
