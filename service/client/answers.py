"""From HTTP answers to documents, and when to send a request again."""

from typing import Any, TypeVar

import httpx
from pydantic import BaseModel

from service.client.operations import Listing, Operation
from service.errors import RegistryError, TooManyRequests, Unavailable, error_class

Answer = TypeVar("Answer", bound=BaseModel | None)
TIMEOUT_S = 60.0
ATTEMPTS = 6
LONGEST_PAUSE_S = 10.0
NOT_ARRIVED = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
MEMBERS = {"type", "title", "status", "code", "detail", "pointer"}


def document(operation: Operation[Answer], answer: httpx.Response) -> Answer:
    """The answer's document.

    Raises:
        RegistryError: as the service raised it.
    """
    if not answer.is_success:
        raise problem(answer)
    if operation.answer is None:
        return None  # type: ignore[return-value]
    return operation.answer.model_validate_json(answer.content)  # type: ignore[attr-defined, return-value]


def problem(answer: httpx.Response) -> RegistryError:
    """The error that a problem document tells of; what comes from something in between is told as it is."""
    try:
        told: dict[str, Any] = answer.json()
        kind, detail = error_class(told["code"]), told["detail"]
    except (ValueError, KeyError, TypeError):
        return Unavailable(f"HTTP {answer.status_code} from something before the registry")
    if kind is TooManyRequests:
        return TooManyRequests(detail, wait_s=int(answer.headers.get("retry-after", 1)))
    more = {name: value for name, value in told.items() if name not in MEMBERS}
    return kind(detail, pointer=told.get("pointer"), **more)


def unreachable(operation: Operation[Any], error: httpx.TransportError) -> Unavailable:
    """The error of a request to which there was no answer."""
    return Unavailable(f"{operation.method} {operation.path}: the registry can't be reached: {error}")


def require_operation(wanted: object) -> None:
    """Raises TypeError."""
    if isinstance(wanted, Listing):
        raise TypeError("a list is read page by page: `registry.all(…)`, not `registry.send(…)`")


def pause(operation: Operation[Answer], attempt: int, outcome: httpx.Response | httpx.TransportError) -> float | None:
    """Seconds to wait before the request is sent again; None: it is not.

    What may have arrived is sent again only where that does no harm.
    """
    if attempt >= ATTEMPTS or operation.file is not None:
        return None
    if isinstance(outcome, httpx.TransportError):
        again = operation.repeatable or isinstance(outcome, NOT_ARRIVED)
        return min(0.2 * 2**attempt, LONGEST_PAUSE_S) if again else None
    if outcome.status_code == 429 or (outcome.status_code == 503 and operation.repeatable):
        asked = outcome.headers.get("retry-after", "1")
        return min(float(asked) if asked.isdigit() else 1.0, LONGEST_PAUSE_S)
    return None
