"""Fields of metadata in an index in memory: they tell which identities can fulfil a filter.

A field has a hash and a number for each row. A row whose hash or number does not fit cannot fulfil the filter; the
database checks the filter itself for the others. So no result depends on a collision of hashes or on rounding.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Path = tuple[str, ...]
Mask = npt.NDArray[np.bool_]
Hashes = Mapping[str, int]
BYTES_PER_ROW = 8
LARGEST, SMALLEST = 1e30, 1e-30
"""A number of larger magnitude counts as this one, one of smaller magnitude as 0: 32 bits can represent these."""
_ABOVE, _BELOW = ("$gt", "$gte"), ("$lt", "$lte")


@dataclass(frozen=True, slots=True)
class Field:
    """One field of the rows of a table. A row without the field has zeros.

    Attributes:
        hashes: (rows,) PostgreSQL's `jsonb_hash`, which is the same for equal values.
        numbers: (rows,) the value if it is a number, otherwise 0.
    """

    hashes: npt.NDArray[np.int32]
    numbers: npt.NDArray[np.float32]

    @classmethod
    def empty(cls, rows: int) -> "Field":
        return cls(np.zeros(rows, np.int32), np.zeros(rows, np.float32))

    def first(self, rows: int) -> "Field":
        return Field(self.hashes[:rows], self.numbers[:rows])


@dataclass(frozen=True, slots=True)
class OneOf:
    """The field equals one of these values, which are in JSON."""

    path: Path
    values: Sequence[str]

    def mask(self, field: Field, hashes: Hashes) -> Mask:
        """Returns True for each row that can fulfil the condition."""
        wanted = [hashes[value] for value in self.values]
        return field.hashes == wanted[0] if len(wanted) == 1 else np.isin(field.hashes, wanted)


@dataclass(frozen=True, slots=True)
class Bound:
    """The field is a number that is at least, or at most, this one."""

    path: Path
    number: float
    is_lower: bool

    def mask(self, field: Field, _: Hashes) -> Mask:
        """Returns True for each row that can fulfil the condition."""
        # The neighbouring number, because PostgreSQL rounds in another way.
        bound = np.nextafter(np.float32(self.number), np.float32(-np.inf if self.is_lower else np.inf))
        fits = field.numbers >= bound if self.is_lower else field.numbers <= bound
        return fits & (field.hashes != 0)


Condition = OneOf | Bound


def conditions_of(metadata_filter: Mapping[str, Any]) -> Iterator[Condition]:
    """Yields the conditions of a filter that `mask_of` evaluates."""
    for name, value in metadata_filter.items():
        if name in ("$and", "$or"):
            for part in value:
                yield from conditions_of(part)
        elif name != "$not":
            yield from _conditions_on(tuple(name.split(".")), value)


def mask_of(metadata_filter: Mapping[str, Any], fields: Mapping[Path, Field], hashes: Hashes) -> Mask | None:
    """Returns True for each row that can fulfil a filter, which `filters.condition_of` accepts; None: all rows can.

    Args:
        hashes: of the values of all conditions.
    """
    return _all([_mask_of_item(name, value, fields, hashes) for name, value in metadata_filter.items()])


def _mask_of_item(name: str, value: Any, fields: Mapping[Path, Field], hashes: Hashes) -> Mask | None:
    if name in ("$and", "$or"):
        combine = _all if name == "$and" else _any
        return combine([mask_of(part, fields, hashes) for part in value])
    if name == "$not":
        return None
    path = tuple(name.split("."))
    if (field := fields.get(path)) is None:
        return None
    return _all([condition.mask(field, hashes) for condition in _conditions_on(path, value)])


def _all(masks: Sequence[Mask | None]) -> Mask | None:
    known = [mask for mask in masks if mask is not None]
    return np.logical_and.reduce(known) if known else None


def _any(masks: Sequence[Mask | None]) -> Mask | None:
    known = [mask for mask in masks if mask is not None]
    return np.logical_or.reduce(known) if len(known) == len(masks) else None


def _conditions_on(path: Path, value: Any) -> Iterator[Condition]:
    for operator, operand in value.items() if isinstance(value, Mapping) else [("$eq", value)]:
        if operator in ("$eq", "$in"):
            yield OneOf(path, [json.dumps(one) for one in (operand if operator == "$in" else [operand])])
        elif operator in (*_ABOVE, *_BELOW) and not isinstance(operand, str):
            yield Bound(path, _comparable(operand), operator in _ABOVE)


def _comparable(number: float) -> float:
    """Returns the number as the database returns those of fields, apart from rounding."""
    return 0.0 if abs(number) < SMALLEST else float(min(max(number, -LARGEST), LARGEST))
