"""A database accepts a bundle whose graph file was replaced by one with identical outputs."""

import pytest
from sqlalchemy import select

from service.errors import StartupError
from service.gallery.people import collections
from service.gallery.storage.database import Database
from service.gallery.storage.tables import model

pytestmark = pytest.mark.anyio


async def test_model_with_a_superseded_fingerprint_is_accepted(database: Database) -> None:
    """The stored fingerprint does not change, because the service's role may not update the table."""
    async with database.transaction() as connection:
        await collections.add_model(connection, "rewritten", 16, "first")
        await collections.add_model(connection, "rewritten", 16, "second", ["first"])
        with pytest.raises(StartupError, match="another model with the id 'rewritten'"):
            await collections.add_model(connection, "rewritten", 16, "second", ["other"])
        statement = select(model.c.fingerprint).where(model.c.id == "rewritten")
        assert (await connection.execute(statement)).scalar_one() == "first"
