"""Hypothesis strategies for JSON texts, forms and query strings with values that are valid, invalid, or at a limit."""

import base64
import json
import uuid
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

from tools.fuzz import archives, originals, pictures


@dataclass(frozen=True)
class Raw:
    """A JSON text that Python's encoder does not write, for example a number of 6,000 digits."""

    text: str


TEXTS = (
    "",
    "\x00",
    "a\x00b",
    "\ud800",
    "\udfff\ud800",
    "default",
    "staff",
    "null",
    "NaN",
    "Infinity",
    "1e400",
    "-1",
    "9" * 400,
    "9" * 6000,
    "\u0663",
    "../../etc/passwd",
    "a" * 257,
    "x" * 20_000,
    "'; DROP TABLE identity; --",
    "%00",
    "\u202e",
    "\U0010ffff",
    "9999-12-31T23:59:59-14:00",
    "9999-12-31T23:59:59+14:00",
    "0001-01-01T00:00:00+14:00",
    "2030-02-30T00:00:00Z",
    "2090-01-01T00:00:00Z",
    str(uuid.UUID(int=0)),
)
NUMBERS = ("9" * 301, "9" * 4000, "9" * 6000, "1e400", "-1e400", "1e-400", "1e308", "NaN", "-Infinity", "-0.0")
NAMES = ("a", "a.b", ".", "a..b", ".".join("a" * 16), ".".join("a" * 100), ".".join("a" * 1200), "\x00", "\ud800", "$x")
OPERATORS = ("$eq", "$ne", "$in", "$nin", "$gt", "$gte", "$lt", "$lte", "$exists", "$contains", "$and", "$or", "$not")

texts = st.one_of(st.sampled_from(TEXTS), st.text(max_size=20), st.text(st.characters(), max_size=300))
numbers = st.one_of(
    st.integers(-5, 1100), st.integers(), st.floats(), st.floats(0, 1), st.sampled_from(NUMBERS).map(Raw)
)
scalars = st.one_of(st.none(), st.booleans(), numbers, texts)
names = st.one_of(st.sampled_from((*NAMES, *OPERATORS)), texts)
deep = st.builds(
    lambda opening, depth: Raw(opening * depth + "1" + {"[": "]", '{"a":': "}"}[opening] * depth),
    st.sampled_from(("[", '{"a":')),
    st.sampled_from((5, 31, 33, 100, 300, 2000)),
)
json_values = st.recursive(
    st.one_of(scalars, deep),
    lambda children: st.one_of(st.lists(children, max_size=4), st.dictionaries(names, children, max_size=4)),
    max_leaves=12,
)
filters = st.recursive(
    st.dictionaries(names, scalars, max_size=2),
    lambda children: st.dictionaries(names, st.one_of(children, st.lists(children, max_size=3)), max_size=3),
    max_leaves=8,
)
retention_times = st.one_of(
    st.datetimes(timezones=st.timezones()).map(lambda moment: moment.isoformat()), st.sampled_from(TEXTS), numbers
)
boxes = st.lists(numbers, min_size=3, max_size=5)
vectors = st.one_of(
    st.just([1.0] + [0.0] * 127), st.lists(numbers, max_size=6), st.binary(max_size=600).map(lambda data: b64(data))
)
image_files = st.one_of(
    st.integers(0, 10**9).map(lambda number: pictures.make(0, number)),
    st.integers(0, 10**9).map(lambda number: pictures.make(1, number)),
    st.binary(max_size=200),
    st.builds(originals.face),
)
archive_files = st.integers(0, 10**9).map(lambda number: archives.make(0, number))


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def render(value: Any, escape: bool = True) -> str:
    """Returns the JSON text of a value that may contain `Raw`, NaN and unpaired surrogates.

    Args:
        escape: escape characters outside ASCII.
    """
    if isinstance(value, Raw):
        return value.text
    if isinstance(value, dict):
        members = (f"{json.dumps(name, ensure_ascii=escape)}: {render(item, escape)}" for name, item in value.items())
        return "{" + ", ".join(members) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(render(item, escape) for item in value) + "]"
    return json.dumps(value, ensure_ascii=escape)


def encode(text: str) -> bytes:
    """Returns UTF-8 bytes; unpaired surrogates become invalid UTF-8."""
    return text.encode("utf-8", "surrogatepass")
