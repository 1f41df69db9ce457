"""Checks texts and JSON values of clients before PostgreSQL stores them or compares them with stored ones."""

import math
from collections.abc import Iterator

MAX_DEPTH = 32
"""Maximum depth of nested lists and objects."""
MAX_DIGITS = 300
"""Maximum number of digits of an integer. Python parses 4,300 digits, and clients often only a double's 308."""
_LIMIT = 10**MAX_DIGITS


def is_storable(text: str) -> bool:
    """Returns False for a text with NUL or unpaired surrogates, which PostgreSQL cannot store."""
    return "\x00" not in text and (text.isascii() or not any("\ud800" <= character <= "\udfff" for character in text))


def problem_of(value: object, max_depth: int = MAX_DEPTH) -> str | None:
    """Returns the reason why the type jsonb cannot hold a parsed JSON value, or None.

    Args:
        max_depth: maximum depth of nested lists and objects.
    """
    level = [value]
    for depth in range(max_depth + 1):
        for item in level:
            if (problem := _problem_of_scalar(item)) is not None:
                return problem
        level = [part for item in level for part in _parts(item)]
        if not level:
            return None
        if depth == max_depth:
            break
    return f"must not be nested more than {max_depth} levels deep"


def _problem_of_scalar(value: object) -> str | None:
    if isinstance(value, str) and not is_storable(value):
        return "must not contain NUL or unpaired surrogates"
    if isinstance(value, float) and not math.isfinite(value):
        return "must not contain NaN or infinity"
    if isinstance(value, int) and abs(value) >= _LIMIT:
        return f"must not contain integers with more than {MAX_DIGITS} digits"
    return None


def _parts(value: object) -> Iterator[object]:
    """Yields the members of a list or an object, including the names."""
    if isinstance(value, dict):
        yield from value
        yield from value.values()
    elif isinstance(value, list):
        yield from value
