"""Which keys are valid, without a question to the database for every request."""

import time
from collections import OrderedDict

from service.errors import DatabaseUnavailable
from service.gallery.access import api_keys
from service.gallery.access.api_keys import ApiKey
from service.gallery.storage.database import Database

REMEMBERED_S = 5.0
"""A key that is revoked works this long at most."""
TRUSTED_IN_OUTAGE_S = 900.0
"""Nor is one that was valid this long ago refused because the database can't be asked."""
MOST_REMEMBERED = 10_000


class KeyRing:
    """Looks keys up, and remembers for a few seconds which were valid."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._remembered: OrderedDict[bytes, tuple[float, ApiKey]] = OrderedDict()

    async def find(self, secret: str) -> ApiKey | None:
        digest, now = api_keys.digest(secret), time.monotonic()
        known = self._remembered.get(digest)
        if known is not None and now - known[0] < REMEMBERED_S:
            return known[1]
        try:
            async with self._database.transaction() as connection:
                key = await api_keys.find(connection, secret)
        except DatabaseUnavailable:
            # Nobody can revoke a key either just now, and figures are wanted most while the database is away.
            if known is not None and now - known[0] < TRUSTED_IN_OUTAGE_S and not known[1].has_expired:
                return known[1]
            raise
        if key is None:
            self._remembered.pop(digest, None)
            return None
        self._remembered[digest] = (now, key)
        self._remembered.move_to_end(digest)
        while len(self._remembered) > MOST_REMEMBERED:
            self._remembered.popitem(last=False)
        return key
