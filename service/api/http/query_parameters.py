"""Query parameters: a misspelt one is told, not passed over."""

from collections.abc import Iterator

from fastapi import Request
from fastapi.dependencies.models import Dependant

from service.errors import InvalidRequest

LONGEST_TOLD = 80


def known_parameters(request: Request) -> None:
    """Raises InvalidRequest: were a parameter passed over, its default would be taken, another collection's say."""
    if not request.query_params:
        return
    route = request.scope["route"]
    known = set(_aliases(route.dependant))
    for name in request.query_params:
        if name not in known:
            told = name[:LONGEST_TOLD]
            choices = f"there are {', '.join(sorted(known))}" if known else "there are none"
            words = f"{request.method} {route.path} has no query parameter {told!r}; {choices}"
            raise InvalidRequest(words, pointer=f"/{told}")


def _aliases(dependant: Dependant) -> Iterator[str]:
    yield from (parameter.alias for parameter in dependant.query_params)
    for further in dependant.dependencies:
        yield from _aliases(further)
