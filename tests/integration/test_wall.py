"""The second wall: what the service's own account can't see or do, whatever a statement forgets to say."""

import uuid
from collections.abc import AsyncIterator

import numpy as np
import pytest
from sqlalchemy import select, text
from sqlalchemy.exc import ProgrammingError

from service.gallery.access import audit_log
from service.gallery.access.audit_entries import Action, Actor, Event
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.people import collections
from service.gallery.people.collections import Collection
from service.gallery.search import search
from service.gallery.storage import row_security
from service.gallery.storage.database import Database
from service.gallery.storage.tables import identity, metadata, template
from tests.integration.test_gallery import enrol, unit

pytestmark = pytest.mark.anyio
WALLED = sorted(
    table.name for table in metadata.sorted_tables if "collection_id" in table.c and table.name != "api_key"
)


@pytest.fixture
async def app(postgres_url: str) -> AsyncIterator[Database]:
    """As the service logs in: one connection, so that whatever a transaction leaves behind is seen by the next."""
    database = Database(row_security.app_role_url(postgres_url), pool_size=1)
    yield database
    await database.close()


@pytest.fixture
async def other(database: Database) -> Collection:
    async with database.transaction() as connection:
        return await collections.create(connection, f"other-{uuid.uuid4().hex[:12]}", "tiny")


async def filled(database: Database, *both: Collection) -> None:
    random = np.random.default_rng(0)
    for one in both:
        for number in range(3):
            await enrol(database, one, f"p{number}", unit(random, 2))


async def test_the_account_is_nobody_special(app: Database) -> None:
    query = text(
        "SELECT current_user, rolsuper, rolbypassrls, rolcreaterole FROM pg_roles WHERE rolname = current_user"
    )
    async with app.transaction() as connection:
        assert (await connection.execute(query)).one() == (row_security.APP_ROLE, False, False, False)
        assert await row_security.row_security_applies(connection)
        owned = text("SELECT count(*) FROM pg_tables WHERE tableowner = current_user")
        assert (await connection.execute(owned)).scalar() == 0


async def test_every_table_of_a_collection_is_behind_it(database: Database) -> None:
    query = text("SELECT relname FROM pg_class WHERE relrowsecurity AND relnamespace = 'public'::regnamespace")
    async with database.transaction() as connection:
        assert sorted((await connection.execute(query)).scalars()) == WALLED


async def test_a_forgotten_where_shows_nobody_else(
    app: Database, database: Database, collection: Collection, other: Collection
) -> None:
    await filled(database, collection, other)
    async with app.transaction() as connection:
        for table in WALLED:
            assert (await connection.execute(text(f"SELECT count(*) FROM {table}"))).scalar() == 0, table
    async with app.transaction(collection_id=collection.id) as connection:
        seen = set((await connection.execute(select(template.c.collection_id))).scalars())
        assert seen == {collection.id}
        people = (await connection.execute(select(identity.c.external_id))).scalars().all()
        assert sorted(people) == ["p0", "p1", "p2"]
        deleted = await connection.execute(text("DELETE FROM identity"))
        assert deleted.rowcount == 3
    async with database.transaction() as connection:
        left = (await connection.execute(select(identity.c.id).where(identity.c.collection_id == other.id))).all()
        assert len(left) == 3


async def test_a_search_that_forgets_its_collection_finds_only_what_was_entered(
    app: Database, database: Database, collection: Collection, other: Collection
) -> None:
    await filled(database, collection, other)
    probe = unit(np.random.default_rng(1))
    async with app.transaction(collection_id=collection.id) as connection:
        assert len((await search.nearest(connection, collection.id, "tiny", probe, 10)).candidates) == 3
        assert (await search.nearest(connection, other.id, "tiny", probe, 10)).candidates == []


async def test_entering_ends_with_the_transaction(
    app: Database, database: Database, collection: Collection, other: Collection
) -> None:
    await filled(database, collection, other)
    for entered, seen in ((collection, 3), (other, 3), (None, 0)):
        async with app.transaction(collection_id=None if entered is None else entered.id) as connection:
            assert (await connection.execute(text("SELECT count(*) FROM identity"))).scalar() == seen
    async with app.transaction(all_collections=True) as connection:
        assert ((await connection.execute(text("SELECT count(*) FROM identity"))).scalar() or 0) >= 6
    async with app.transaction() as connection:
        assert (await connection.execute(text("SELECT count(*) FROM identity"))).scalar() == 0


async def test_two_collections_may_be_entered(
    app: Database, database: Database, collection: Collection, other: Collection
) -> None:
    await filled(database, collection, other)
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
        "UPDATE model SET fingerprint = 'x'",
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
async def test_what_it_may_not_do(
    app: Database, database: Database, collection: Collection, other: Collection, statement: str
) -> None:
    await filled(database, collection, other)

    async def act() -> None:
        async with app.transaction(collection_id=collection.id) as connection:
            for part in statement.split("; "):
                await connection.execute(text(part), {"other": other.id} if ":other" in part else {})

    with pytest.raises(ProgrammingError):
        await act()


async def test_the_trail_is_added_to_all_the_same(app: Database, collection: Collection) -> None:
    trail = AuditTrail(b"key")
    async with app.transaction(collection_id=collection.id) as connection:
        await trail.append(connection, collection.id, [Event(Action.SEARCH, Actor())])
        await trail.append(connection, collection.id, [Event(Action.SEARCH, Actor())])
    async with app.transaction(collection_id=collection.id) as connection:
        assert await trail.verify(connection, collection.id) == 2
        assert len(await audit_log.page(connection, collection.id, 10)) == 2


async def test_a_login_of_ones_own_takes_on_the_role(postgres_url: str, collection: Collection) -> None:
    """The owner's login with the role's rights, as with one configured URL; RESET does not lead back."""
    database = Database(postgres_url, pool_size=1, role=row_security.APP_ROLE)
    async with database.transaction() as connection:
        assert await row_security.row_security_applies(connection)
        await connection.execute(text("RESET ROLE"))
        assert await row_security.row_security_applies(connection)
    await database.close()
