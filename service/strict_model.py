"""Base class of manifests, settings sections and training configurations."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    """An immutable pydantic model that refuses unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
