"""Decides which requests are repeated, how often, and after how many seconds."""

from dataclasses import dataclass
from typing import Any

from tenacity import AsyncRetrying, RetryCallState, Retrying, retry_if_exception, stop_after_attempt
from tenacity.wait import wait_random_exponential

from identity_registry.errors import RegistryError, TooManyRequests, Unavailable, Unreachable
from identity_registry.requests import Request


@dataclass(frozen=True)
class RetryPolicy:
    """Repeats requests that failed for a temporary reason.

    A request is repeated if the service did not receive it or refused it because of the rate limit (HTTP 429). A
    request that has the same effect when it is received twice is also repeated after HTTP 502, 503 and 504 and after a
    connection that broke. Registrations belong to these because they carry an Idempotency-Key.

    Attributes:
        max_attempts: number of attempts, including the first one; 1 repeats nothing.
        max_wait_s: longest wait between two attempts. If the service asks for a longer wait (Retry-After), the error is
            raised at once, with the requested seconds in `retry_after_s`.
    """

    max_attempts: int = 5
    max_wait_s: float = 30.0

    def sync(self, request: Request[Any]) -> Retrying:
        """Returns a callable that calls a function until it succeeds or must not be repeated."""
        return Retrying(**self._options(request))

    def asynchronous(self, request: Request[Any]) -> AsyncRetrying:
        """Returns what `sync` returns, for coroutine functions."""
        return AsyncRetrying(**self._options(request))

    def _options(self, request: Request[Any]) -> dict[str, Any]:
        return {
            "retry": retry_if_exception(lambda error: self._is_repeated(request, error)),
            "stop": stop_after_attempt(self.max_attempts),
            "wait": self._wait_s,
            "reraise": True,
        }

    def _is_repeated(self, request: Request[Any], error: BaseException) -> bool:
        if not isinstance(error, RegistryError) or (error.retry_after_s or 0) > self.max_wait_s:
            return False
        if isinstance(error, TooManyRequests) or (isinstance(error, Unreachable) and not error.sent):
            return True
        return isinstance(error, Unavailable) and request.repeatable

    def _wait_s(self, state: RetryCallState) -> float:
        """Returns the seconds of Retry-After, else a random time whose upper bound doubles with each attempt."""
        error = state.outcome.exception() if state.outcome is not None else None
        if isinstance(error, RegistryError) and error.retry_after_s is not None:
            return error.retry_after_s
        return wait_random_exponential(multiplier=0.5, max=min(10.0, self.max_wait_s))(state)
