"""Base classes of the response documents."""

import base64
import struct
from typing import Annotated, Generic, TypeVar

from pydantic import AliasChoices, BaseModel, ConfigDict, Field

Item = TypeVar("Item")

Interval = tuple[float, float]
"""Lower and upper bound of a 95 % confidence interval."""

Base64Text = Annotated[str, Field(repr=False)]
"""Biometric data as Base64. `repr` omits it, so that it does not reach log files."""


class Document(BaseModel):
    """A response of the API.

    Ignores fields that this version of the client does not define, so that the client works with later releases of the
    service. Enumerations are plain text for the same reason.
    """

    model_config = ConfigDict(extra="ignore", frozen=True, protected_namespaces=())


class Page(Document, Generic[Item]):
    """One page of a list. Each list operation of the API has its own name for the items."""

    items: list[Item] = Field(
        validation_alias=AliasChoices(
            "identities",
            "templates",
            "corrections",
            "collections",
            "jobs",
            "rows",
            "entries",
            "heads",
            "models",
            "webhooks",
            "deliveries",
        )
    )
    next_cursor: str | None = None


def floats(text: str) -> tuple[float, ...]:
    """Returns the numbers of an embedding that is little-endian float32 in Base64."""
    data = base64.b64decode(text)
    return struct.unpack(f"<{len(data) // 4}f", data)
