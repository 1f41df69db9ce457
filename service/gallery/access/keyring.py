"""Validates API keys with a cache, so that most requests need no database query for it."""

import asyncio
import re
import time
from collections import OrderedDict

from service.gallery.access import api_keys
from service.gallery.access.api_keys import ApiKey
from service.gallery.storage.database import Database

CACHED_S = 5.0
"""Seconds for which a valid key is cached. A process accepts a revoked key for at most this time, also while the
database is unreachable."""
UNKNOWN_CACHED_S = 1.0
"""Seconds for which the result is cached that no key has a secret."""
MAX_CACHED = 10_000
"""Maximum number of cached results. The oldest is removed first."""
LOOKUP_TIMEOUT_S = 3.0
SECRET = re.compile(re.escape(api_keys.PREFIX) + r"[A-Za-z0-9_-]{43}")


class KeyRing:
    """Reads API keys from the database and caches them."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._cache: OrderedDict[bytes, tuple[float, ApiKey | None]] = OrderedDict()
        self._lookups: dict[bytes, asyncio.Task[ApiKey | None]] = {}

    async def find(self, secret: str) -> ApiKey | None:
        """Returns the key with this secret; None if it is malformed or unknown, has expired or is revoked.

        Concurrent calls with the same secret share one query.

        Raises:
            DatabaseUnavailable: the database is unreachable, and the key is not cached.
        """
        if not SECRET.fullmatch(secret):
            return None
        digest = api_keys.digest(secret)
        until, key = self._cache.get(digest, (0.0, None))
        if time.monotonic() >= until:
            key = await self._look_up(secret, digest)
        return None if key is None or key.has_expired else key

    async def _look_up(self, secret: str, digest: bytes) -> ApiKey | None:
        lookup = self._lookups.get(digest)
        if lookup is None:
            lookup = self._lookups[digest] = asyncio.create_task(self._read(secret, digest))
            lookup.add_done_callback(lambda _: self._lookups.pop(digest, None))
        # The query continues for the other callers if this one is cancelled.
        return await asyncio.shield(lookup)

    async def _read(self, secret: str, digest: bytes) -> ApiKey | None:
        started = time.monotonic()
        async with self._database.transaction(timeout_s=LOOKUP_TIMEOUT_S) as connection:
            key = await api_keys.find(connection, secret)
        # From the start of the query: a key that is revoked during it counts as cached since then.
        self._cache[digest] = started + (UNKNOWN_CACHED_S if key is None else CACHED_S), key
        self._cache.move_to_end(digest)
        while len(self._cache) > MAX_CACHED:
            self._cache.popitem(last=False)
        return key
