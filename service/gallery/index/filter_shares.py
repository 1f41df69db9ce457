"""Remembers which share of a collection fulfils a filter, so that a search checks as few identities as it needs.

Filters with the same fields and operators share an entry: their values mostly differ little in how many identities
fulfil them. A wrong share costs time, and no result depends on it.
"""

import hashlib
import uuid
from collections import OrderedDict
from collections.abc import Mapping
from typing import Any

Shape = tuple[uuid.UUID, bytes, bool]
"""A collection, the SHA-256 of the filter without its values (a filter may name 64 fields of 512 characters), and
whether the share is that of the identities that the fields in memory do not exclude."""
MAX_SHAPES = 1_000
WEIGHT = 0.3
"""Weight of the newest share in the mean."""


class FilterShares:
    """The shares of the most recently used filters of one process."""

    def __init__(self) -> None:
        self._shares: OrderedDict[Shape, float] = OrderedDict()

    def expected(self, shape: Shape) -> float | None:
        """Returns the share of identities, 0 to 1, that fulfil such a filter; None: it is unknown."""
        return self._shares.get(shape)

    def observe(self, shape: Shape, share: float) -> None:
        """Adds the share that a search has found to the mean of such filters."""
        known = self._shares.pop(shape, share)
        self._shares[shape] = (1 - WEIGHT) * known + WEIGHT * share
        if len(self._shares) > MAX_SHAPES:
            self._shares.popitem(last=False)


def shape_of(collection_id: uuid.UUID, metadata_filter: Mapping[str, Any] | None, is_restricted: bool = False) -> Shape:
    """Returns the shape of a filter. Its values, which can be personal data, are not kept."""
    digest = hashlib.sha256(repr(_without_values(metadata_filter)).encode()).digest()
    return collection_id, digest, is_restricted


def _without_values(part: Any) -> Any:
    if isinstance(part, Mapping):
        return {name: _without_values(value) for name, value in part.items()}
    return [_without_values(value) for value in part] if isinstance(part, list) else None
