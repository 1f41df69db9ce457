"""Hashes of the values of filters are those of PostgreSQL, and a limited number of them is remembered."""

import pytest

from service.gallery.index import field_stream
from service.gallery.storage.database import Database

pytestmark = pytest.mark.anyio


async def test_the_number_of_remembered_values_is_limited(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(field_stream, "MAX_VALUES", 2)
    hashes = field_stream.ValueHashes()
    async with database.transaction() as connection:
        expected = await hashes.of(connection, ["1", "2", "3"])
        assert len(set(expected.values())) == 3
        for values in (["3", "2"], ["1", "3"], ["2", "1", "3"]):
            assert await hashes.of(connection, values) == {value: expected[value] for value in values}
        assert await hashes.of(connection, ["1.0"]) == {"1.0": expected["1"]}
