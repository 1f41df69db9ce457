"""Requests to the REST API of another system."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import httpx

MAX_BYTES = 64 * 1024**2
"""A larger answer of another system is not read to its end; the registry refuses smaller files already."""


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
        status, content = _read(client, path, query)
    except httpx.HTTPError as error:
        raise SourceError(f"{client.base_url} cannot be reached: {error}") from None
    if status in (401, 403, 404):
        raise SourceError(f"{system.name} answers {status}; {system.refused}")
    try:
        if status != 200 or len(content) > MAX_BYTES:
            raise ValueError(f"status {status}, {len(content):,} bytes")
        return json.loads(content)
    except (ValueError, RecursionError) as error:
        raise SourceError(f"{client.base_url} does not answer like {system.name}: {error}") from None


def _read(client: httpx.Client, path: str, query: Mapping[str, Any]) -> tuple[int, bytes]:
    """Returns the status and the first bytes of a response, one more than MAX_BYTES at least if it is larger."""
    with client.stream("GET", path, params=query) as response:
        content = bytearray()
        for part in response.iter_bytes():
            content += part
            if len(content) > MAX_BYTES:
                break
        return response.status_code, bytes(content)


@dataclass(frozen=True, slots=True)
class Download:
    """Returns the bytes of a picture when it is called, or a text that says why there are none."""

    client: httpx.Client
    path: str
    system: System

    def __call__(self) -> bytes | str:
        try:
            status, content = _read(self.client, self.path, {})
        except httpx.HTTPError as error:
            return f"the picture cannot be downloaded: {error}"
        if status != 200:
            return f"{self.system.name} answers {status}"
        if len(content) > MAX_BYTES:
            return "the picture is too large"
        return content or self.system.no_picture
