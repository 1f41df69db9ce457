"""Requests to the REST API of another system."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

MAX_PICTURE_BYTES = 64 * 1024**2
"""A larger answer of another system is not read; the registry refuses smaller files already."""


class SourceError(Exception):
    """The other system cannot be read. The message says what to change."""


@dataclass(frozen=True, slots=True)
class System:
    """Another system. `refused`: what to check if it refuses a request. `no_picture`: why it may lack a picture."""

    name: str
    refused: str
    no_picture: str


def get_json(client: httpx.Client, path: str, query: Mapping[str, Any], system: System) -> Any:
    """Returns the JSON document of a response. Raises SourceError."""
    try:
        response = client.get(path, params=query)
    except httpx.HTTPError as error:
        raise SourceError(f"{client.base_url} cannot be reached: {error}") from None
    if response.status_code in (401, 403, 404):
        raise SourceError(f"{system.name} answers {response.status_code}; {system.refused}")
    try:
        response.raise_for_status()
        return response.json()
    except (httpx.HTTPError, ValueError) as error:
        raise SourceError(f"{client.base_url} does not answer like {system.name}: {error}") from None


@dataclass(frozen=True, slots=True)
class Download:
    """Returns the bytes of a picture when it is called, or a text that says why there are none."""

    client: httpx.Client
    path: str
    system: System

    def __call__(self) -> bytes | str:
        try:
            response = self.client.get(self.path)
        except httpx.HTTPError as error:
            return f"the picture cannot be downloaded: {error}"
        if response.status_code != 200:
            return f"{self.system.name} answers {response.status_code}"
        if len(response.content) > MAX_PICTURE_BYTES:
            return "the picture is too large"
        return response.content or self.system.no_picture
