"""The audit trail: whatever is done to a chain from inside the database, checking it tells."""

import asyncio
import uuid
from collections.abc import Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text

from service.gallery.access import audit_log
from service.gallery.access.audit_entries import Action, Actor, ChainBrokenError, Event, Head
from service.gallery.access.audit_trail import AuditTrail
from service.gallery.storage.database import Database

pytestmark = pytest.mark.anyio
KEY = b"a key that the database never sees"
WHO = Actor(uuid.uuid4(), "kiosk", "request-1")


async def written(database: Database, count: int, key: bytes = KEY) -> uuid.UUID:
    """A chain of its own."""
    chain = uuid.uuid4()
    events = [Event(Action.SEARCH, WHO, uuid.uuid4(), {"pictures": number}) for number in range(count)]
    async with database.transaction() as connection:
        await AuditTrail(key).append(connection, chain, events)
    return chain


async def tampered(database: Database, chain: uuid.UUID, *statements: str) -> None:
    async with database.transaction() as connection:
        for statement in statements:
            await connection.execute(text(statement), {"chain": chain})


async def problem(database: Database, chain: uuid.UUID, known: Sequence[Head] = (), key: bytes = KEY) -> str | None:
    async with database.transaction() as connection:
        try:
            await AuditTrail(key).verify(connection, chain, known)
        except ChainBrokenError as error:
            return str(error)
    return None


async def head_of(database: Database, chain: uuid.UUID) -> Head:
    async with database.transaction() as connection:
        head = await audit_log.find_head(connection, chain)
    assert head is not None
    return head


async def test_a_chain_that_nobody_touched_is_whole(database: Database) -> None:
    chain = await written(database, 5)
    await written(database, 3)
    async with database.transaction() as connection:
        await AuditTrail(KEY).append(connection, chain, [Event(Action.ERASE, WHO, uuid.uuid4(), {"templates": 2})])
        assert await AuditTrail(KEY).verify(connection, chain) == 6
        entries = await audit_log.page(connection, chain, 10)
    assert [entry.number for entry in entries] == [1, 2, 3, 4, 5, 6]
    assert (entries[5].action, entries[5].key_name, entries[5].details) == ("erase", "kiosk", {"templates": 2})


@pytest.mark.parametrize(
    "change",
    [
        "SET action = 'verify'",
        "SET at = at + interval '1 microsecond'",
        "SET key_id = NULL",
        "SET key_name = 'somebody else'",
        "SET request_id = 'another'",
        "SET identity_id = gen_random_uuid()",
        "SET identity_id = NULL",
        "SET details = '{\"pictures\": 7}'",
        "SET code = decode(repeat('00', 32), 'hex')",
    ],
)
async def test_an_altered_entry_is_told(database: Database, change: str) -> None:
    chain = await written(database, 5)
    await tampered(database, chain, f"UPDATE audit {change} WHERE collection_id = :chain AND number = 3")
    assert await problem(database, chain) == "entry 3 or one before it was altered"


async def test_a_removed_entry_is_told(database: Database) -> None:
    chain = await written(database, 5)
    await tampered(database, chain, "DELETE FROM audit WHERE collection_id = :chain AND number = 2")
    assert await problem(database, chain) == "entry 2 is missing"


async def test_a_closed_gap_is_told(database: Database) -> None:
    chain = await written(database, 4)
    await tampered(
        database,
        chain,
        "DELETE FROM audit WHERE collection_id = :chain AND number = 2",
        "UPDATE audit SET number = 2 WHERE collection_id = :chain AND number = 3",
        "UPDATE audit SET number = 3 WHERE collection_id = :chain AND number = 4",
    )
    assert await problem(database, chain) == "entry 2 or one before it was altered"


async def test_an_entry_from_another_chain_is_told(database: Database) -> None:
    chain, other = await written(database, 3), await written(database, 3)
    await tampered(
        database,
        chain,
        "DELETE FROM audit WHERE collection_id = :chain AND number = 1",
        f"UPDATE audit SET collection_id = :chain WHERE collection_id = '{other}' AND number = 1",
    )
    assert await problem(database, chain) == "entry 1 or one before it was altered"
    assert await problem(database, other) == "entry 1 is missing"


async def test_a_cut_off_end_is_told(database: Database) -> None:
    chain = await written(database, 5)
    cut = "DELETE FROM audit WHERE collection_id = :chain AND number > 3"
    await tampered(database, chain, cut)
    assert await problem(database, chain) == "the chain ends at entry 3 and had 5"
    code = "(SELECT code FROM audit WHERE collection_id = :chain AND number = 3)"
    await tampered(database, chain, f"UPDATE audit_head SET number = 3, code = {code} WHERE collection_id = :chain")
    assert await problem(database, chain) == "the chain was cut off at entry 3: its end is not sealed"
    async with database.transaction() as connection:
        await AuditTrail(KEY).append(connection, chain, [Event(Action.SEARCH, WHO)])
    assert await problem(database, chain) == "the chain had been changed before entry 4"


async def test_a_chain_without_a_head_is_told(database: Database) -> None:
    chain = await written(database, 2)
    await tampered(database, chain, "DELETE FROM audit_head WHERE collection_id = :chain")
    assert await problem(database, chain) == "the chain ends at entry 2 and its end is not recorded so"


async def test_an_old_head_put_back_is_told_by_an_exported_one(database: Database) -> None:
    chain = await written(database, 3)
    old = await head_of(database, chain)
    async with database.transaction() as connection:
        await AuditTrail(KEY).append(connection, chain, [Event(Action.EXPORT, WHO)])
    exported = await head_of(database, chain)
    assert await problem(database, chain, [old, exported]) is None
    await tampered(
        database,
        chain,
        "DELETE FROM audit WHERE collection_id = :chain AND number = 4",
        f"UPDATE audit_head SET number = 3, code = '\\x{old.code.hex()}', seal = '\\x{old.seal.hex()}' "
        "WHERE collection_id = :chain",
    )
    assert await problem(database, chain) is None
    assert await problem(database, chain, [exported]) == "the chain ends at entry 3 and had 4"


async def test_another_key_is_told(database: Database) -> None:
    chain = await written(database, 2)
    assert await problem(database, chain, key=b"another") == "entry 1 or one before it was altered"


async def test_many_at_once_make_one_chain(database: Database) -> None:
    chain = uuid.uuid4()

    async def append(number: int) -> None:
        async with database.transaction() as connection:
            await AuditTrail(KEY).append(connection, chain, [Event(Action.ENROL, WHO, details={"number": number})] * 3)

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
async def test_what_is_written_is_what_is_checked(database: Database, details: dict[str, object]) -> None:
    chain = uuid.uuid4()
    async with database.transaction() as connection:
        await AuditTrail(KEY).append(connection, chain, [Event(Action.CHANGE, WHO, details=details)])
        assert await AuditTrail(KEY).verify(connection, chain) == 1
