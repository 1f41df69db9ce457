"""Refuses unknown query parameters: an ignored `collectoin=staff` would select the default collection."""

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant

from service.errors import InvalidRequest

MAX_NAME = 80


async def refuse_unknown_parameters(request: Request) -> None:  # FastAPI calls other functions on a thread
    """Raises InvalidRequest if the request has a query parameter that the operation does not define."""
    if not request.query_params:
        return
    route = request.scope["route"]
    known = set(_aliases(route.dependant))
    for name in request.query_params:
        if name not in known:
            shortened = name[:MAX_NAME]
            valid = f"valid are {', '.join(sorted(known))}" if known else "it has none"
            detail = f"{request.method} {route.path} has no query parameter {shortened!r}; {valid}"
            raise InvalidRequest(detail, pointer=f"/{shortened}")


def _aliases(dependant: Dependant) -> Iterator[str]:
    yield from (parameter.alias for parameter in dependant.query_params)
    for dependency in dependant.dependencies:
        yield from _aliases(dependency)
