"""Arrays as parameters of statements, in PostgreSQL's binary format: sending lists takes several times as long.

A statement names the type with `array_parameter`. The functions of this module encode the values.
"""

import struct
import uuid
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import numpy.typing as npt
import psycopg
from psycopg import pq
from psycopg.adapt import Dumper
from psycopg.postgres import types
from sqlalchemy import ARRAY, Cast, DateTime, Integer, LargeBinary, Text, Uuid, bindparam, cast
from sqlalchemy.types import NullType, TypeEngine

EPOCH = datetime(2000, 1, 1, tzinfo=UTC)
"""Timestamps of PostgreSQL are microseconds since then."""
MICROSECOND = timedelta(microseconds=1)
_NULL = struct.pack(">i", -1)


@dataclass(frozen=True)
class BinaryArray:
    """An array of one dimension.

    Attributes:
        type_oid: the id of the type of the elements.
        count: number of elements.
        elements: each element after its length of four bytes; -1 is the length of NULL.
    """

    type_oid: int
    count: int
    elements: bytes
    has_nulls: bool = False


class BinaryArrayDumper(Dumper):
    """Sends a `BinaryArray`. The statement must cast the parameter to its type."""

    format = pq.Format.BINARY

    def dump(self, obj: BinaryArray) -> bytes:
        dimensions, first = 1, 1
        return struct.pack(">iiIii", dimensions, obj.has_nulls, obj.type_oid, obj.count, first) + obj.elements


psycopg.adapters.register_dumper(BinaryArray, BinaryArrayDumper)  # for connections that are opened afterwards


def array_parameter(name: str, kind: TypeEngine[Any]) -> Cast[Any]:
    """Returns a parameter whose value is a `BinaryArray` of elements of this type."""
    return cast(bindparam(name, type_=NullType()), ARRAY(kind))


def array_of(kind: TypeEngine[Any], values: Iterable[Any]) -> BinaryArray:
    """Encodes values of a type: integers, texts, UUIDs, bytes or points in time. None is NULL."""
    name, encode = next(found for of_type, found in _ENCODERS.items() if isinstance(kind, of_type))
    encoded = [None if value is None else encode(value) for value in values]
    elements = b"".join([_NULL if item is None else _LENGTH.pack(len(item)) + item for item in encoded])
    return BinaryArray(types[name].oid, len(encoded), elements, None in encoded)


def array_of_records(type_oid: int, records: npt.NDArray[Any]) -> BinaryArray:
    """Encodes n values of equal size, each of which is already in the binary format of its type."""
    sized = np.empty(len(records), [("bytes", ">i4"), ("value", records.dtype)])
    sized["bytes"], sized["value"] = records.dtype.itemsize, records
    return BinaryArray(type_oid, len(records), sized.tobytes())


def _microseconds(at: datetime) -> bytes:
    return struct.pack(">q", (at - EPOCH) // MICROSECOND)


def _uuid(value: uuid.UUID) -> bytes:
    return value.bytes


_LENGTH = struct.Struct(">i")
_ENCODERS: Mapping[type[TypeEngine[Any]], tuple[str, Callable[[Any], bytes]]] = {
    Integer: ("int4", struct.Struct(">i").pack),
    Text: ("text", str.encode),
    Uuid: ("uuid", _uuid),
    LargeBinary: ("bytea", bytes),
    DateTime: ("timestamptz", _microseconds),
}
