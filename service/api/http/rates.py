"""How often a key may ask, counted in each process by itself (a moving window, by the library `limits`)."""

import math
import time

from limits import RateLimitItemPerMinute
from limits.storage import MemoryStorage
from limits.strategies import MovingWindowRateLimiter

from service.errors import TooManyRequests
from service.gallery.access.api_keys import ApiKey


class Rates:
    """Keeps count. `default`: requests a minute for keys that have no rate of their own; None: as many as they like."""

    def __init__(self, default: int | None) -> None:
        self._default = default
        self._limiter = MovingWindowRateLimiter(MemoryStorage())

    def count(self, key: ApiKey) -> None:
        """Raises TooManyRequests."""
        allowed = key.requests_per_minute or self._default
        if allowed is None:
            return
        item = RateLimitItemPerMinute(allowed)
        if self._limiter.hit(item, str(key.id)):
            return
        free_at = self._limiter.get_window_stats(item, str(key.id)).reset_time
        raise TooManyRequests(
            f"the key {key.name!r} may make {allowed} requests a minute",
            wait_s=max(1, math.ceil(free_at - time.time())),
        )
