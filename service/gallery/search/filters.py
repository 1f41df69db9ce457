"""JSON filters on the metadata of identities, translated to SQL conditions. Searches and lists accept them.

    {"team": "engines"}                            equality; several fields are combined with AND
    {"floor": {"$gte": 3, "$lt": 9}}               $eq $ne $gt $gte $lt $lte, for numbers and strings
    {"team": {"$in": ["engines", "brakes"]}}       $in $nin
    {"tags": {"$contains": "night shift"}}         an element of a list
    {"badge": {"$exists": true}}                   the field exists, even with the value null
    {"address.city": "Turin"}                      a nested field
    {"$or": [{…}, {…}], "$and": […], "$not": {…}}  combinations

A field that does not exist fails every comparison; `$ne`, `$nin` and `$not` are true for it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, and_, false, func, literal, not_, or_, true
from sqlalchemy.dialects.postgresql import JSONB

from service.errors import InvalidFilter
from service.gallery.storage.tables import identity
from service.json_values import problem_of

MAX_DEPTH = 6
MAX_CONDITIONS = 64
MAX_PARTS, MAX_NAME = 16, 512
"""Maximum number of parts and of characters of a dotted name. A function of PostgreSQL has at most 100 arguments."""
Scalar = str | int | float | bool | None
Condition = ColumnElement[bool]


def condition_of(metadata_filter: Mapping[str, Any]) -> Condition:
    """Returns the filter as a condition on the table `identity`. Raises InvalidFilter."""
    # Each level of a combination consists of an object and a list; the operators and their lists add two levels.
    if (problem := problem_of(metadata_filter, 2 * MAX_DEPTH + 4)) is not None:
        raise _invalid(problem, "")
    return _Translator().all_of(metadata_filter, "", 0)


class _Translator:
    """Translates one filter and counts its conditions."""

    def __init__(self) -> None:
        self._conditions = 0

    def all_of(self, parts: object, pointer: str, depth: int) -> Condition:
        if not isinstance(parts, Mapping):
            raise _invalid("a filter must be a JSON object of fields and conditions", pointer)
        if depth > MAX_DEPTH:
            raise _invalid(f"filters may be nested at most {MAX_DEPTH} levels deep", pointer)
        return and_(
            true(), *(self._item(name, value, f"{pointer}/{_part(name)}", depth) for name, value in parts.items())
        )

    def _item(self, name: str, value: object, pointer: str, depth: int) -> Condition:
        self._count(1, pointer)
        if name in ("$and", "$or"):
            if not isinstance(value, list) or not value:
                raise _invalid(f"{name} needs a non-empty list of filters", pointer)
            parts = [self.all_of(part, f"{pointer}/{index}", depth + 1) for index, part in enumerate(value)]
            return and_(*parts) if name == "$and" else or_(*parts)
        if name == "$not":
            return not_(self.all_of(value, pointer, depth + 1))
        if name.startswith("$"):
            raise _invalid("unknown operator; use $and, $or or $not to combine filters", pointer)
        return self._conditions_on(name.split("."), value, pointer)

    def _count(self, conditions: int, pointer: str) -> None:
        self._conditions += conditions
        if self._conditions > MAX_CONDITIONS:
            raise _invalid(f"a filter may have at most {MAX_CONDITIONS} conditions and values", pointer)

    def _conditions_on(self, path: list[str], value: object, pointer: str) -> Condition:
        if not all(path):
            raise _invalid("the name of a field must not be empty", pointer)
        if len(path) > MAX_PARTS or sum(map(len, path)) > MAX_NAME:
            raise _invalid(f"the name of a field may have at most {MAX_PARTS} parts and {MAX_NAME} characters", pointer)
        if not isinstance(value, Mapping):
            return _equal(path, _scalar(value, pointer))
        if not value:
            raise _invalid('a field needs an operator, such as {"$gte": 3}', pointer)
        parts = []
        self._count(len(value) - 1, pointer)
        for name, operand in value.items():
            self._count(len(operand) if isinstance(operand, list) else 0, pointer)
            if name not in OPERATORS:
                raise _invalid(f"unknown operator; use one of {', '.join(OPERATORS)}", f"{pointer}/{_part(name)}")
            parts.append(OPERATORS[name](path, operand, f"{pointer}/{name}"))
        return and_(*parts)


def _equal(path: list[str], value: Scalar) -> Condition:
    # Containment (@>), which the GIN index on `metadata` supports.
    return identity.c.metadata.contains(_nested(path, value))


def _field(path: list[str]) -> ColumnElement[Any]:
    # The names are parameters because quotes, braces and commas are special in an array literal.
    return func.jsonb_extract_path(identity.c.metadata, *path, type_=JSONB)


def _nested(path: list[str], value: object) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    return value  # type: ignore[return-value]


def _one_of(path: list[str], values: object, pointer: str) -> Condition:
    if not isinstance(values, list) or len(values) > MAX_CONDITIONS:
        raise _invalid(f"needs a list of at most {MAX_CONDITIONS} values", pointer)
    return or_(false(), *(_equal(path, _scalar(value, f"{pointer}/{index}")) for index, value in enumerate(values)))


def _ordered(compare: Callable[[Any, Any], Condition]) -> Callable[[list[str], object, str], Condition]:
    def condition(path: list[str], value: object, pointer: str) -> Condition:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise _invalid("needs a number or a string", pointer)
        field = _field(path)
        kind = "string" if isinstance(value, str) else "number"
        # jsonb orders values of different types too; the type check restricts the comparison to one type. A missing
        # field yields NULL, whose negation is NULL again; coalesce turns it into false.
        return func.coalesce(and_(func.jsonb_typeof(field) == kind, compare(field, literal(value, JSONB))), false())

    return condition


def _exists(path: list[str], value: object, pointer: str) -> Condition:
    if not isinstance(value, bool):
        raise _invalid("needs true or false", pointer)
    field = _field(path)
    return field.is_not(None) if value else field.is_(None)


def _contains(path: list[str], value: object, pointer: str) -> Condition:
    return identity.c.metadata.contains(_nested(path, [_scalar(value, pointer)]))


OPERATORS: dict[str, Callable[[list[str], Any, str], Condition]] = {
    "$eq": lambda path, value, pointer: _equal(path, _scalar(value, pointer)),
    "$ne": lambda path, value, pointer: not_(_equal(path, _scalar(value, pointer))),
    "$in": _one_of,
    "$nin": lambda path, value, pointer: not_(_one_of(path, value, pointer)),
    "$gt": _ordered(lambda field, value: field > value),
    "$gte": _ordered(lambda field, value: field >= value),
    "$lt": _ordered(lambda field, value: field < value),
    "$lte": _ordered(lambda field, value: field <= value),
    "$exists": _exists,
    "$contains": _contains,
}


def _scalar(value: object, pointer: str) -> Scalar:
    if value is None or isinstance(value, str | int | float | bool):
        return value
    raise _invalid("the value must be a string, a number, true, false or null", pointer)


def _part(name: str) -> str:
    """Returns the name, cut to 64 characters, as a part of a JSON pointer (RFC 6901)."""
    return name[:64].replace("~", "~0").replace("/", "~1")


def _invalid(problem: str, pointer: str) -> InvalidFilter:
    return InvalidFilter(f"filter{pointer}: {problem}", pointer=f"/filter{pointer}")
