"""The base of everything that is read from a file of ours or a user's: fixed, and without a key that nobody knows."""

from pydantic import BaseModel, ConfigDict


class Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", protected_namespaces=())
