"""Rate limits of API keys: a moving window, counted in each process (library `limits`)."""

import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from service.errors import TooManyRequests
from service.gallery.access.api_keys import ApiKey


class KeyRateLimiter:
    """Counts the requests of each key. `default`: requests per minute of keys without a limit; None: unlimited."""

    def __init__(self, default: int | None) -> None:
        self._default = default
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

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
