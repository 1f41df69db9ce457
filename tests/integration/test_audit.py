"""Verification of an audit trail detects every change that is made to its chain inside the database."""

import asyncio
import uuid
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import insert, select, text

from service.gallery.access import audit_log
from service.gallery.access.audit_entries import Action, Actor, ChainBrokenError, Event, Head
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.storage.database import Database
from service.gallery.storage.tables import audit

pytestmark = pytest.mark.anyio
# The columns `code` and `seal` of the tables hold the `mac` of entries and heads and the `head_mac` of heads.
KEY = b"a key that is not in the database"
ACTOR = Actor(uuid.uuid4(), "kiosk", "request-1")


async def new_chain(database: Database, count: int, key: bytes = KEY) -> uuid.UUID:
    """Appends `count` entries to a new chain and returns the id of its collection."""
    chain = uuid.uuid4()
    events = [Event(Action.SEARCH, ACTOR, uuid.uuid4(), {"pictures": number}) for number in range(count)]
    async with database.transaction() as connection:
        await AuditTrail(key).append(connection, chain, events)
    return chain


async def tamper(database: Database, chain: uuid.UUID, *statements: str) -> None:
    async with database.transaction() as connection:
        for statement in statements:
            await connection.execute(text(statement), {"chain": chain})


async def verification_error(
    database: Database, chain: uuid.UUID, exported: Sequence[Head] = (), key: bytes = KEY
) -> str | None:
    """Verifies a chain and returns the message of the error; None if the chain is intact."""
    async with database.transaction() as connection:
        try:
            await AuditTrail(key).verify(connection, chain, exported)
        except ChainBrokenError as error:
            return str(error)
    return None


async def head_of(database: Database, chain: uuid.UUID) -> Head:
    async with database.transaction() as connection:
        head = await audit_log.find_head(connection, chain)
    assert head is not None
    return head


async def test_an_unchanged_chain_is_intact(database: Database) -> None:
    chain = await new_chain(database, 5)
    await new_chain(database, 3)
    async with database.transaction() as connection:
        await AuditTrail(KEY).append(connection, chain, [Event(Action.ERASE, ACTOR, uuid.uuid4(), {"templates": 2})])
        assert await AuditTrail(KEY).verify(connection, chain) == 6
        entries = await audit_log.page(connection, chain, 10)
    assert [entry.number for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert (entries[5].action, entries[5].key_name, entries[5].details) == ("erase", "kiosk", {"templates": 2})


@pytest.mark.parametrize(
    "change",
    [
        "SET action = 'verify'",
        "SET at = '2026-01-01'",
        "SET key_id = NULL",
        "SET key_name = 'another key'",
        "SET request_id = 'another'",
        "SET identity_id = '00000000-0000-0000-0000-000000000001'",
        "SET identity_id = NULL",
        "SET details = '{\"pictures\": 7}'",
        "SET code = decode(repeat('00', 32), 'hex')",
    ],
)
async def test_an_altered_entry_is_detected(database: Database, change: str) -> None:
    chain = await new_chain(database, 5)
    await tamper(database, chain, f"UPDATE audit {change} WHERE collection_id = :chain AND number = 3")
    assert await verification_error(database, chain) == "entry 3 or an earlier entry was altered"


async def test_a_removed_entry_is_detected(database: Database) -> None:
    chain = await new_chain(database, 5)
    await tamper(database, chain, "DELETE FROM audit WHERE collection_id = :chain AND number = 2")
    assert await verification_error(database, chain) == "entry 2 is missing"


async def test_a_removed_entry_is_detected_after_renumbering(database: Database) -> None:
    chain = await new_chain(database, 4)
    await tamper(
        database,
        chain,
        "DELETE FROM audit WHERE collection_id = :chain AND number = 2",
        "UPDATE audit SET number = 2 WHERE collection_id = :chain AND number = 3",
        "UPDATE audit SET number = 3 WHERE collection_id = :chain AND number = 4",
    )
    assert await verification_error(database, chain) == "entry 2 or an earlier entry was altered"


async def test_an_entry_of_another_chain_is_detected(database: Database) -> None:
    chain, other = await new_chain(database, 3), await new_chain(database, 3)
    async with database.transaction() as connection:
        entry = select(*(column.label(column.key) for column in audit.c)).where(
            audit.c.collection_id == other, audit.c.number == 1
        )
        foreign = dict((await connection.execute(entry)).one()._mapping)
    for emptied in (chain, other):
        await tamper(database, emptied, "DELETE FROM audit WHERE collection_id = :chain AND number = 1")
    async with database.transaction() as connection:
        await connection.execute(insert(audit).values(**foreign | {"collection_id": chain}))
    assert await verification_error(database, chain) == "entry 1 or an earlier entry was altered"
    assert await verification_error(database, other) == "entry 1 is missing"


async def test_a_chain_that_was_cut_off_is_detected(database: Database) -> None:
    chain = await new_chain(database, 5)
    truncation = "DELETE FROM audit WHERE collection_id = :chain AND number > 3"
    await tamper(database, chain, truncation)
    assert await verification_error(database, chain) == "the chain ends at entry 3 and had 5 entries"
    mac = "(SELECT code FROM audit WHERE collection_id = :chain AND number = 3)"
    await tamper(database, chain, f"UPDATE audit_head SET number = 3, code = {mac} WHERE collection_id = :chain")
    assert await verification_error(database, chain) == "the chain was cut off at entry 3: the head's MAC is wrong"
    async with database.transaction() as connection:
        await AuditTrail(KEY).append(connection, chain, [Event(Action.SEARCH, ACTOR)])
    assert await verification_error(database, chain) == "the chain was altered before entry 4"


async def test_a_missing_head_is_detected(database: Database) -> None:
    chain = await new_chain(database, 2)
    await tamper(database, chain, "DELETE FROM audit_head WHERE collection_id = :chain")
    assert await verification_error(database, chain) == "the chain ends at entry 2 and its head does not match"


async def test_an_exported_head_detects_that_an_older_head_was_restored(database: Database) -> None:
    chain = await new_chain(database, 3)
    old = await head_of(database, chain)
    async with database.transaction() as connection:
        await AuditTrail(KEY).append(connection, chain, [Event(Action.EXPORT, ACTOR)])
    exported = await head_of(database, chain)
    assert await verification_error(database, chain, [old, exported]) is None
    await tamper(
        database,
        chain,
        "DELETE FROM audit WHERE collection_id = :chain AND number = 4",
        f"UPDATE audit_head SET number = 3, code = '\\x{old.mac.hex()}', seal = '\\x{old.head_mac.hex()}' "
        "WHERE collection_id = :chain",
    )
    assert await verification_error(database, chain) is None
    assert await verification_error(database, chain, [exported]) == "the chain ends at entry 3 and had 4 entries"


async def test_concurrent_appends_give_one_chain(database: Database) -> None:
    chain = uuid.uuid4()

    async def append(number: int) -> None:
        async with database.transaction() as connection:
            event = Event(Action.ENROL, ACTOR, details={"number": number})
            await AuditTrail(KEY).append(connection, chain, [event] * 3)

    await asyncio.gather(*(append(number) for number in range(20)))
    async with database.transaction() as connection:
        assert await AuditTrail(KEY).verify(connection, chain) == 60


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    details=st.dictionaries(
        st.text(st.characters(codec="utf-8", exclude_characters="\x00"), max_size=8),
        st.integers(-(2**53), 2**53) | st.booleans() | st.text(st.characters(codec="utf-8", exclude_characters="\x00")),
        max_size=4,
    )
)
async def test_all_details_are_verified_as_written(database: Database, details: dict[str, object]) -> None:
    chain = uuid.uuid4()
    async with database.transaction() as connection:
        await AuditTrail(KEY).append(connection, chain, [Event(Action.CHANGE, ACTOR, details=details)])
        assert await AuditTrail(KEY).verify(connection, chain) == 1
