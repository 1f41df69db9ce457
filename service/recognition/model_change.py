"""Which models a collection's faces are embedded by, while that may change under a request."""

from collections.abc import Awaitable, Callable
from typing import TypeVar

from service.errors import Conflict, ModelNotLoaded
from service.gallery.people.collections import Collection
from service.inference.engine import Engine

Result = TypeVar("Result")
ATTEMPTS = 5


class ModelsChangedError(Exception):
    """The collection got another model while its request's pictures were looked at."""


async def retry_on_model_change(act: Callable[[], Awaitable[Result]]) -> Result:
    """Do it again where the models changed meanwhile, so that embeddings of two models never meet. Raises Conflict."""
    for _ in range(ATTEMPTS):
        try:
            return await act()
        except ModelsChangedError:
            continue
    raise Conflict("the collection's model changes all the time; try again")


def require_loaded(collection: Collection, engine: Engine) -> None:
    """Embeddings of two models can't be compared. Raises ModelNotLoaded."""
    if collection.model_id not in engine.dims:
        raise ModelNotLoaded(
            f"collection {collection.name!r} belongs to model {collection.model_id!r}, and the service runs "
            f"{', '.join(engine.dims)}: start it with the bundle of the collection's model",
            pointer="/collection",
        )


def secondary_model_of(collection: Collection, engine: Engine) -> str | None:
    """The model that embeds the collection's new faces as well, where this process runs it.

    Where it doesn't, people are enrolled all the same, and are counted as missing.
    """
    return collection.secondary_model_id if collection.secondary_model_id in engine.dims else None
