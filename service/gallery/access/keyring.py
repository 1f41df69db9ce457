"""Validates API keys with a cache, so that most requests need no database query for it."""

import time
from collections import OrderedDict

from service.errors import DatabaseUnavailable
from service.gallery.access import api_keys
from service.gallery.access.api_keys import ApiKey
from service.gallery.storage.database import Database

CACHED_S = 5.0
"""Seconds for which a valid key is cached. A process accepts a revoked or expired key for at most this time."""
CACHED_IN_OUTAGE_S = 900.0
"""Seconds for which a cached key remains valid while the database is unreachable."""
MAX_CACHED = 10_000
"""Maximum number of cached keys. The key that was read from the database least recently is removed first."""


class KeyRing:
    """Reads API keys from the database and caches the valid ones for `CACHED_S` seconds."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cache: OrderedDict[bytes, tuple[float, ApiKey]] = OrderedDict()

    async def find(self, secret: str) -> ApiKey | None:
        """Returns the key with this secret; None if it is unknown, has expired or is revoked.

        Raises:
            DatabaseUnavailable: the database is unreachable, and the key was not valid within `CACHED_IN_OUTAGE_S`.
        """
        digest, now = api_keys.digest(secret), time.monotonic()
        cached = self._cache.get(digest)
        if cached is not None and now - cached[0] < CACHED_S:
            return cached[1]
        try:
            async with self._database.transaction() as connection:
                key = await api_keys.find(connection, secret)
        except DatabaseUnavailable:
            # During an outage no key can be revoked, and /metrics must remain readable.
            if cached is not None and now - cached[0] < CACHED_IN_OUTAGE_S and not cached[1].has_expired:
                return cached[1]
            raise
        if key is None:
            self._cache.pop(digest, None)
            return None
        self._cache[digest] = (now, key)
        self._cache.move_to_end(digest)
        while len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        return key
