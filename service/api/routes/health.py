"""GET /healthz and /readyz"""

from typing import Literal

from fastapi import APIRouter
from pydantic import BaseModel

from service.api.dependencies import RegistryDependency
from service.errors import Unavailable
from service.gallery.schema import schema_problem

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
    async with registry.database.transaction() as connection:
        problem = await schema_problem(connection, registry.schema_revision)
    if problem is not None:
        raise Unavailable(problem)
    return Ready(model_id=registry.engine.model_id, schema_revision=registry.schema_revision)
