"""Row-level security limits what the role of the service can read and write, even if a statement has no condition."""

import contextlib
import uuid
from collections.abc import AsyncIterator

import numpy as np
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import NotSupportedError, ProgrammingError

from service.gallery.access import audit_log
from service.gallery.access.audit_entries import Action, Actor, Event
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.people import collections
from service.gallery.people.collections import Collection
from service.gallery.storage import row_security
from service.gallery.storage.database import Database
from service.gallery.storage.tables import identity, metadata, template
from tests.databases import CLUSTER
from tests.gallery_rows import enrol, nearest_to, unit

pytestmark = pytest.mark.anyio
PROTECTED_TABLES = sorted(
    table.name for table in metadata.sorted_tables if "collection_id" in table.c and table.name != "api_key"
)


@pytest.fixture
async def app(postgres_url: str) -> AsyncIterator[Database]:
    """Connects under the role of the service. One connection shows what a transaction leaves to the next one."""
    database = Database(row_security.app_role_url(postgres_url), pool_size=1)
    yield database
    await database.close()


@pytest.fixture
async def other(database: Database) -> Collection:
    async with database.transaction() as connection:
        return await collections.create(connection, f"other-{uuid.uuid4().hex[:12]}", "tiny")


async def enrol_three_each(database: Database, *targets: Collection) -> None:
    random = np.random.default_rng(0)
    for target in targets:
        for number in range(3):
            await enrol(database, target, f"p{number}", unit(random, 2))


async def test_the_role_owns_nothing_and_has_no_privileged_attribute(app: Database) -> None:
    query = text(
        "SELECT current_user, rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname = current_user"
    )
    async with app.transaction() as connection:
        assert (await connection.execute(query)).one() == (row_security.APP_ROLE, False, False, False)
        assert await row_security.row_security_applies(connection)
        owned = text("SELECT count(*) FROM pg_tables WHERE tableowner = current_user")
        assert (await connection.execute(owned)).scalar() == 0


async def test_every_table_with_a_collection_id_has_row_level_security(database: Database) -> None:
    query = text("SELECT relname FROM pg_class WHERE relrowsecurity AND relnamespace = 'public'::regnamespace")
    async with database.transaction() as connection:
        protected = set((await connection.execute(query)).scalars())
    assert protected == {*PROTECTED_TABLES} | ({"model"} if CLUSTER else set())


async def test_a_statement_without_a_condition_reads_and_deletes_rows_of_the_allowed_collection_only(
    app: Database, database: Database, collection: Collection, other: Collection
) -> None:
    await enrol_three_each(database, collection, other)
    async with app.transaction() as connection:
        for table in PROTECTED_TABLES:
            assert (await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar() == 0, table
    async with app.transaction(collection_id=collection.id) as connection:
        visible = set((await connection.execute(select(template.c.collection_id))).scalars())
        assert visible == {collection.id}
        external_ids = (await connection.execute(select(identity.c.external_id))).scalars().all()
        assert sorted(external_ids) == ["p0", "p1", "p2"]
        deleted = await connection.execute(text("DELETE FROM identity"))
        assert deleted.rowcount == 3
    async with database.transaction() as connection:
        remaining = (await connection.execute(select(identity.c.id).where(identity.c.collection_id == other.id))).all()
        assert len(remaining) == 3


async def test_a_search_in_a_collection_that_is_not_allowed_has_no_result(
    app: Database, database: Database, collection: Collection, other: Collection
) -> None:
    await enrol_three_each(database, collection, other)
    probe = unit(np.random.default_rng(1))
    async with app.transaction(collection_id=collection.id) as connection:
        assert len((await nearest_to(connection, collection.id, probe, 10)).candidates) == 3
        assert (await nearest_to(connection, other.id, probe, 10)).candidates == []


async def test_the_allowed_collection_is_reset_at_the_end_of_the_transaction(
    app: Database, database: Database, collection: Collection, other: Collection
) -> None:
    await enrol_three_each(database, collection, other)
    for allowed, visible in ((collection, 3), (other, 3), (None, 0)):
        async with app.transaction(collection_id=None if allowed is None else allowed.id) as connection:
            assert (await connection.execute(text("SELECT count(*) FROM identity"))).scalar() == visible
    async with app.transaction(all_collections=True) as connection:
        assert ((await connection.execute(text("SELECT count(*) FROM identity"))).scalar() or 0) >= 6
    async with app.transaction() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM identity"))).scalar() == 0


async def test_reading_two_collections_by_name_allows_both(
    app: Database, database: Database, collection: Collection, other: Collection
) -> None:
    await enrol_three_each(database, collection, other)
    async with app.transaction() as connection:
        await collections.get(connection, collection.name)
        await collections.get(connection, other.name)
        assert (await connection.execute(text("SELECT count(*) FROM identity"))).scalar() == 6


@pytest.mark.parametrize(
    "statement",
    [
        "INSERT INTO identity (collection_id, id, external_id, label) VALUES (:other, gen_random_uuid(), 'x', 'x')",
        "UPDATE identity SET collection_id = :other",
        "UPDATE audit SET action = 'x'",
        "DELETE FROM audit",
        "DELETE FROM audit_head",
        "INSERT INTO api_key (id, name, digest, scopes) VALUES (gen_random_uuid(), 'x', 'x', '{}')",
        "UPDATE api_key SET revoked_at = NULL",
        "UPDATE alembic_version SET version_num = 'x'",
        "ALTER TABLE identity DISABLE ROW LEVEL SECURITY",
        "DROP POLICY one_collection ON identity",
        "CREATE POLICY mine ON identity USING (true)",
        "ALTER ROLE registry_app BYPASSRLS",
        "SET ROLE postgres",
        "SET SESSION AUTHORIZATION postgres",
        "SET LOCAL row_security = off; SELECT count(*) FROM identity",
        "COPY identity FROM '/etc/passwd'",
        "CREATE TABLE mine (x int)",
    ],
)
async def test_the_role_cannot_execute_the_statement(
    app: Database, database: Database, collection: Collection, other: Collection, statement: str
) -> None:
    await enrol_three_each(database, collection, other)

    async def execute() -> None:
        async with app.transaction(collection_id=collection.id) as connection:
            for part in statement.split("; "):
                await connection.execute(text(part), {"other": other.id} if ":other" in part else {})

    with pytest.raises((ProgrammingError, NotSupportedError)):  # Citus does not support a change of the distribution
        await execute()


async def test_the_role_changes_no_model(app: Database, database: Database, collection: Collection) -> None:
    """One server refuses the statement. Citus permits it, because a lock of a row needs the right, on no row."""
    with contextlib.suppress(ProgrammingError):
        async with app.transaction(all_collections=True) as connection:
            changed = await connection.execute(text("UPDATE model SET fingerprint = 'x'"))
            assert changed.rowcount == 0
    async with database.transaction() as connection:
        fingerprints = await connection.execute(text("SELECT count(*) FROM model WHERE fingerprint = 'x'"))
        assert fingerprints.scalar_one() == 0


async def test_the_role_appends_to_the_audit_trail(app: Database, collection: Collection) -> None:
    trail = AuditTrail(b"key")
    async with app.transaction(collection_id=collection.id) as connection:
        await trail.append(connection, collection.id, [Event(Action.SEARCH, Actor())])
        await trail.append(connection, collection.id, [Event(Action.SEARCH, Actor())])
    async with app.transaction(collection_id=collection.id) as connection:
        assert await trail.verify(connection, collection.id) == 2
        assert len(await audit_log.page(connection, collection.id, 10)) == 2


async def test_a_login_of_the_owner_assumes_the_role(postgres_url: str, collection: Collection) -> None:
    """With one configured URL the service connects as the owner. RESET ROLE does not restore the owner's rights."""
    database = Database(postgres_url, pool_size=1, role=row_security.APP_ROLE)
    async with database.transaction() as connection:
        assert await row_security.row_security_applies(connection)
        await connection.execute(text("RESET ROLE"))
        assert await row_security.row_security_applies(connection)
    await database.close()
