"""Which people a search or a list is about: a JSON filter on their metadata, turned into SQL.

    {"team": "engines"}                            equal, and so on for several fields: all must hold
    {"floor": {"$gte": 3, "$lt": 9}}               $eq $ne $gt $gte $lt $lte, numbers or texts
    {"team": {"$in": ["engines", "brakes"]}}       $in $nin
    {"tags": {"$contains": "night shift"}}         an element of a list
    {"badge": {"$exists": true}}                   the field is there, also as null
    {"address.city": "Turin"}                      a field within a field
    {"$or": [{…}, {…}], "$and": […], "$not": {…}}  combined

A field that is not there equals nothing and is in no order; `$ne`, `$nin` and `$not` hold for it.
"""

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import ColumnElement, and_, false, func, literal, not_, or_, true
from sqlalchemy.dialects.postgresql import JSONB

from service.errors import InvalidFilter
from service.gallery.storage.tables import identity

MAX_DEPTH = 6
MAX_CONDITIONS = 64
Scalar = str | int | float | bool | None
Condition = ColumnElement[bool]


def condition_of(wish: Mapping[str, Any]) -> Condition:
    """The filter as a condition on `identity`. Raises InvalidFilter."""
    return _Reader().all_of(wish, "", 0)


class _Reader:
    """ReadAuditBuffer one filter and counts what it asks for."""

    def __init__(self) -> None:
        self._conditions = 0

    def all_of(self, wish: object, pointer: str, depth: int) -> Condition:
        if not isinstance(wish, Mapping):
            raise _invalid("a filter is an object of fields and what they must be", pointer)
        if depth > MAX_DEPTH:
            raise _invalid(f"filters go {MAX_DEPTH} levels deep at most", pointer)
        return and_(
            true(), *(self._item(name, value, f"{pointer}/{_part(name)}", depth) for name, value in wish.items())
        )

    def _item(self, name: str, value: object, pointer: str, depth: int) -> Condition:
        self._count(1, pointer)
        if name in ("$and", "$or"):
            if not isinstance(value, list) or not value:
                raise _invalid(f"{name} takes a list of filters", pointer)
            parts = [self.all_of(part, f"{pointer}/{index}", depth + 1) for index, part in enumerate(value)]
            return and_(*parts) if name == "$and" else or_(*parts)
        if name == "$not":
            return not_(self.all_of(value, pointer, depth + 1))
        if name.startswith("$"):
            raise _invalid("not known here; combine filters with $and, $or and $not", pointer)
        return self._conditions_on(name.split("."), value, pointer)

    def _count(self, conditions: int, pointer: str) -> None:
        self._conditions += conditions
        if self._conditions > MAX_CONDITIONS:
            raise _invalid(f"a filter has at most {MAX_CONDITIONS} conditions and values", pointer)

    def _conditions_on(self, path: list[str], value: object, pointer: str) -> Condition:
        if not all(path):
            raise _invalid("a field's name must not be empty", pointer)
        if not isinstance(value, Mapping):
            return _equal(path, _scalar(value, pointer))
        if not value:
            raise _invalid('a field needs an operator, such as {"$gte": 3}', pointer)
        parts = []
        self._count(len(value) - 1, pointer)
        for name, operand in value.items():
            self._count(len(operand) if isinstance(operand, list) else 0, pointer)
            if name not in OPERATORS:
                raise _invalid(f"not an operator; there are {', '.join(OPERATORS)}", f"{pointer}/{_part(name)}")
            parts.append(OPERATORS[name](path, operand, f"{pointer}/{name}"))
        return and_(*parts)


def _equal(path: list[str], value: Scalar) -> Condition:
    """By containment, for which there is an index."""
    return identity.c.metadata.contains(_nested(path, value))


def _field(path: list[str]) -> ColumnElement[Any]:
    """The names travel as parameters: in an array literal quotes, braces and commas would have a meaning."""
    return func.jsonb_extract_path(identity.c.metadata, *path, type_=JSONB)


def _nested(path: list[str], value: object) -> dict[str, Any]:
    for name in reversed(path):
        value = {name: value}
    return value  # type: ignore[return-value]


def _one_of(path: list[str], values: object, pointer: str) -> Condition:
    if not isinstance(values, list) or len(values) > MAX_CONDITIONS:
        raise _invalid(f"takes a list of up to {MAX_CONDITIONS} values", pointer)
    return or_(false(), *(_equal(path, _scalar(value, f"{pointer}/{index}")) for index, value in enumerate(values)))


def _ordered(compare: Callable[[Any, Any], Condition]) -> Callable[[list[str], object, str], Condition]:
    def condition(path: list[str], value: object, pointer: str) -> Condition:
        if isinstance(value, bool) or not isinstance(value, int | float | str):
            raise _invalid("takes a number or a text", pointer)
        field = _field(path)
        kind = "string" if isinstance(value, str) else "number"
        # jsonb has an order across types, and only values of one type are to be compared. An absent field must make
        # this false and not unknown, which its opposite would be as well.
        return func.coalesce(and_(func.jsonb_typeof(field) == kind, compare(field, literal(value, JSONB))), false())

    return condition


def _exists(path: list[str], value: object, pointer: str) -> Condition:
    if not isinstance(value, bool):
        raise _invalid("takes true or false", pointer)
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
    raise _invalid("must be a text, a number, true, false or null", pointer)


def _part(name: str) -> str:
    """A part of a JSON pointer (RFC 6901), shortened: a name may be long."""
    return name[:64].replace("~", "~0").replace("/", "~1")


def _invalid(words: str, pointer: str) -> InvalidFilter:
    return InvalidFilter(f"the filter's {pointer or 'whole'}: {words}", pointer=f"/filter{pointer}")
