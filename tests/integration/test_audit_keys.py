"""Verification tells a chain of another key from an altered chain."""

import uuid

import pytest

from service.gallery.access.audit_entries import Action, AnotherKeyError, ChainBrokenError, Event
from service.gallery.access.audit_trail import AuditTrail, audit_key_id
from service.gallery.storage.database import Database
from tests.integration.test_audit import ACTOR, KEY, head_of, new_chain, tamper

pytestmark = pytest.mark.anyio
OTHER = b"the key of another installation, made later"
ID, OTHER_ID = audit_key_id(KEY).hex(), audit_key_id(OTHER).hex()
UNKNOWN_ID = "UPDATE audit_head SET mac_key_id = NULL WHERE collection_id = :chain"


async def problem(database: Database, chain: uuid.UUID, key: bytes, *exported: object) -> tuple[type[Exception], str]:
    async with database.transaction() as connection:
        with pytest.raises(ChainBrokenError) as caught:
            await AuditTrail(key).verify(connection, chain, exported)  # type: ignore[arg-type]
    return caught.type, str(caught.value)


async def append(database: Database, chain: uuid.UUID, key: bytes) -> None:
    async with database.transaction() as connection:
        await AuditTrail(key).append(connection, chain, [Event(Action.SEARCH, ACTOR)])


@pytest.mark.parametrize("count", [1, 5])
async def test_a_chain_of_another_key_is_not_reported_as_altered(database: Database, count: int) -> None:
    chain = await new_chain(database, count)
    entries = "entry 1" if count == 1 else "entries 1 to 5"
    expected = f"made with another key: {entries} (key id {ID})"
    assert await problem(database, chain, OTHER) == (AnotherKeyError, expected)
    await tamper(database, chain, UNKNOWN_ID)
    assert await problem(database, chain, OTHER) == (AnotherKeyError, f"made with another key: {entries}")


async def test_exported_heads_are_compared_under_another_key_too(database: Database) -> None:
    chain = await new_chain(database, 3)
    head = await head_of(database, chain)
    assert (await problem(database, chain, OTHER, head))[0] is AnotherKeyError
    await tamper(database, chain, "UPDATE audit SET code = repeat('x', 32)::bytea WHERE collection_id = :chain")
    assert (await problem(database, chain, OTHER, head))[0] is ChainBrokenError


async def test_a_service_that_continues_with_a_new_key_leaves_two_parts(database: Database) -> None:
    """So does a service that starts after a restore without `audit.key`."""
    chain = await new_chain(database, 3)
    await append(database, chain, OTHER)
    former = f"made with another key: entries 1 to 3 (key id {ID})"
    assert await problem(database, chain, OTHER) == (AnotherKeyError, former)
    later = f"made with another key: entries 4 to 5 (key id {OTHER_ID})"
    assert await problem(database, chain, KEY) == (AnotherKeyError, later)


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit SET key_name = 'x' WHERE collection_id = :chain AND number = 2",
        "UPDATE audit SET code = repeat('x', 32)::bytea WHERE collection_id = :chain AND number <= 2",
        "UPDATE audit SET action = 'verify' WHERE collection_id = :chain",
        "UPDATE audit_head SET seal = repeat('x', 32)::bytea WHERE collection_id = :chain",
    ],
)
async def test_a_chain_whose_head_names_this_key_is_altered(database: Database, change: str) -> None:
    chain = await new_chain(database, 5)
    await tamper(database, chain, change)
    assert (await problem(database, chain, KEY))[0] is ChainBrokenError


@pytest.mark.parametrize(
    "change",
    [
        "UPDATE audit SET key_name = 'x' WHERE collection_id = :chain AND number = 2",
        "UPDATE audit SET code = repeat('x', 32)::bytea WHERE collection_id = :chain AND number = 2",
        "DELETE FROM audit WHERE collection_id = :chain AND number = 2",
        "UPDATE audit SET number = number + 1 WHERE collection_id = :chain AND number = 5",
        "UPDATE audit_head SET seal = repeat('x', 32)::bytea WHERE collection_id = :chain",
        "DELETE FROM audit_head WHERE collection_id = :chain",
    ],
)
async def test_an_altered_chain_without_the_id_of_its_key_stays_altered(database: Database, change: str) -> None:
    chain = await new_chain(database, 5)
    await tamper(database, chain, UNKNOWN_ID, change)
    assert (await problem(database, chain, KEY))[0] is ChainBrokenError


async def test_a_chain_that_was_emptied_is_altered(database: Database) -> None:
    chain = await new_chain(database, 5)
    reset = "UPDATE audit_head SET number = 0, code = decode(repeat('00', 32), 'hex') WHERE collection_id = :chain"
    await tamper(database, chain, UNKNOWN_ID, "DELETE FROM audit WHERE collection_id = :chain", reset)
    assert (await problem(database, chain, KEY))[0] is ChainBrokenError


async def test_a_head_that_an_older_release_wrote_verifies(database: Database) -> None:
    chain = await new_chain(database, 2)
    await tamper(database, chain, UNKNOWN_ID)
    await append(database, chain, KEY)
    async with database.transaction() as connection:
        assert await AuditTrail(KEY).verify(connection, chain) == 3
    assert (await head_of(database, chain)).mac_key_id == audit_key_id(KEY)
