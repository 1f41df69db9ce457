"""Arrays that are sent in PostgreSQL's binary format arrive as they were sent."""

import uuid
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from psycopg.postgres import types
from psycopg.types.array import ArrayBinaryLoader
from sqlalchemy import DateTime, Integer, LargeBinary, Text, Uuid, func, select

from service.gallery.storage.binary_arrays import BinaryArrayDumper, array_of, array_of_records, array_parameter
from service.gallery.storage.database import Database

VALUES: dict[str, tuple[Any, list[Any]]] = {
    "integers": (Integer(), [0, -1, 2**31 - 1, -(2**31), None]),
    "texts": (Text(), ["", "NULL", '"{a,b}\\', "żółć 名前 🙂", None, "x" * 100_000]),
    "ids": (Uuid(), [uuid.UUID(int=0), uuid.uuid4(), None]),
    "bytes": (LargeBinary(), [b"", b"\x00\xff", bytes(32), None]),
    "times": (
        DateTime(timezone=True),
        [
            datetime(2026, 11, 28, 12, 30, 1, 999_999, UTC),
            datetime(1999, 12, 31, 23, 59, 59, 1, timezone(timedelta(hours=5, minutes=30))),
            datetime(1, 1, 1, tzinfo=UTC),
            datetime(9999, 12, 31, 23, 59, 59, 999_999, UTC),
            None,
        ],
    ),
    "empty": (Text(), []),
    "one type, no NULL": (Integer(), [1, 2]),
}


@pytest.mark.anyio
@pytest.mark.parametrize("name", VALUES)
async def test_values_arrive_as_they_were_sent(database: Database, name: str) -> None:
    kind, values = VALUES[name]
    element = func.unnest(array_parameter("sent", kind)).table_valued("value", with_ordinality="position", name="e")
    rows = element.render_derived()
    statement = select(rows.c.value).select_from(rows).order_by(rows.c.position)
    async with database.transaction() as connection:
        received = list((await connection.execute(statement, {"sent": array_of(kind, values)})).scalars())
    assert received == values


@given(values=st.lists(st.none() | st.integers(-(2**31), 2**31 - 1)))
def test_encoding_is_the_inverse_of_decoding(values: list[int | None]) -> None:
    sent = BinaryArrayDumper(type(None)).dump(array_of(Integer(), values))
    assert ArrayBinaryLoader(types["int4[]"].oid).load(sent) == values


def test_records_are_elements_of_equal_size() -> None:
    numbers = np.array([1, -2, 3], ">i4")
    records = array_of_records(types["int4"].oid, numbers)
    assert records == array_of(Integer(), [1, -2, 3])
