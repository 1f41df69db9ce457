"""GET /healthz and /readyz"""

import asyncio
from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from service.api.dependencies import RegistryDependency
from service.errors import DatabaseUnavailable, Unavailable
from service.gallery.schema import schema_problem

PATIENCE_S = 5
router = APIRouter(tags=["health"])


class Alive(BaseModel):
    status: Literal["alive"] = "alive"


class Ready(BaseModel):
    status: Literal["ready"] = "ready"
    model_id: str
    schema_revision: str


@router.get("/healthz", summary="The process lives")
async def healthz() -> Alive:
    return Alive()


@router.get("/readyz", summary="The process can do its work")
async def readyz(registry: RegistryDependency) -> Ready:
    """Models are loaded, the database answers, and its schema is one that this release works with; else 503."""
    try:
        async with asyncio.timeout(PATIENCE_S), registry.database.transaction() as connection:
            problem = await schema_problem(connection, registry.schema_revision)
    except TimeoutError:
        raise DatabaseUnavailable(f"the database did not answer within {PATIENCE_S} s") from None
    if problem is not None:
        raise Unavailable(problem)
    return Ready(model_id=registry.engine.model_id, schema_revision=registry.schema_revision)
