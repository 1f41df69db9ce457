"""The fields of metadata that the filters of one collection use, of which an index keeps a limited number."""

import time
from collections.abc import Iterable

from service.gallery.index.fields import Path

MAX_FIELDS = 8
"""Maximum number of fields of an index. Each takes 8 bytes per identity, and reading it takes a second per million."""
MIN_UNUSED_S = 30.0
"""A field that a filter used within this time is not replaced by another one."""
RETRY_S = 10.0
"""Time until a field that could not be read is read again."""


class FieldRequests:
    """Remembers the most recently used fields."""

    def __init__(self) -> None:
        self._used_at: dict[Path, float] = {}
        self._retry_at: dict[Path, float] = {}

    @property
    def wanted(self) -> set[Path]:
        """The fields that the index should contain."""
        now = time.monotonic()
        return {path for path in self._used_at if self._retry_at.get(path, 0.0) <= now}

    def use(self, paths: Iterable[Path]) -> None:
        """Adds the fields of a filter. Those that would displace recently used ones are ignored."""
        now = time.monotonic()
        for path in paths:
            if path not in self._used_at and len(self._used_at) >= MAX_FIELDS:
                oldest = min(self._used_at, key=self._used_at.__getitem__)
                if self._used_at[oldest] > now - MIN_UNUSED_S:
                    continue
                del self._used_at[oldest]
            self._used_at[path] = now

    def fail(self, path: Path) -> None:
        """States that the field could not be read."""
        others = {other: retry_at for other, retry_at in self._retry_at.items() if other in self._used_at}
        self._retry_at = others | {path: time.monotonic() + RETRY_S}
