"""Limits of API keys, counted in each process: requests per minute (library `limits`), and concurrent requests."""

import contextlib
import math
import time
from collections import Counter
from collections.abc import Iterator
from uuid import UUID

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from service.errors import ServerBusy, TooManyRequests
from service.gallery.access.api_keys import ApiKey


class KeyRateLimiter:
    """Counts the requests of each key.

    Args:
        default: requests per minute of keys without a limit; None: unlimited.
        max_concurrent: maximum number of concurrent requests of a key.
    """

    def __init__(self, default: int | None, max_concurrent: int) -> None:
        self._default, self._max_concurrent = default, max_concurrent
        self._limiter = MovingWindowRateLimiter(MemoryStorage())
        self._running: Counter[UUID] = Counter()

    def check(self, key: ApiKey) -> None:
        """Counts a request. Raises TooManyRequests if the key has sent more than its limit in the last 60 seconds."""
        limit = key.requests_per_minute or self._default
        if limit is None:
            return
        item = RateLimitItemPerMinute(limit)
        if self._limiter.hit(item, str(key.id)):
            return
        free_at = self._limiter.get_window_stats(item, str(key.id)).reset_time
        wait_s = max(1, math.ceil(free_at - time.time()))
        raise TooManyRequests(
            f"the key {key.name!r} may send {limit} requests per minute; wait {wait_s} s", wait_s=wait_s
        )

    @contextlib.contextmanager
    def running(self, key: ApiKey) -> Iterator[None]:
        """Counts a request while the block runs. Raises ServerBusy if the key has too many concurrent requests."""
        if self._running[key.id] >= self._max_concurrent:
            raise ServerBusy(
                f"the key {key.name!r} has {self._max_concurrent} requests running "
                "(limits.max_concurrent_requests_per_key); wait for one of them to end"
            )
        self._running[key.id] += 1
        try:
            yield
        finally:
            self._running[key.id] -= 1
            if not self._running[key.id]:
                del self._running[key.id]
