"""Requests as values. One description of an operation serves the synchronous and the asynchronous client."""

import base64
import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Generic, Literal, TypeVar
from urllib.parse import quote

from identity_registry.inputs import Picture, read_picture, without_none
from identity_registry.responses.base import Page

Response = TypeVar("Response")
Item = TypeVar("Item")
Method = Literal["GET", "POST", "PATCH", "DELETE"]
FILE_NAME = "picture"
"""Sent instead of the name of a picture's file, which may contain the name of a person."""


@dataclass(frozen=True, repr=False)
class Body:
    """The fields of a JSON document or of a form.

    Attributes:
        pictures: pairs of a field's name and a picture. Several pairs with one name are a list.
        as_form: send pictures as multipart/form-data, which needs a quarter less bytes than Base64 in JSON.
    """

    fields: Mapping[str, Any] = field(default_factory=dict)
    pictures: Sequence[tuple[str, Picture]] = ()
    as_form: bool = True

    def encode(self) -> dict[str, Any]:
        """Reads the pictures and returns the arguments of an httpx request.

        Raises:
            OSError: a picture cannot be read.
        """
        read = [(name, read_picture(picture)) for name, picture in self.pictures]
        if read and self.as_form:
            files = [(name, (FILE_NAME, data)) for name, data in read]
            return {"files": files, "data": {name: _text(value) for name, value in self.fields.items()}}
        document = dict(self.fields) | {name: base64.b64encode(data).decode() for name, data in read}
        return {"content": _json(document), "headers": {"Content-Type": "application/json"}}


@dataclass(frozen=True, repr=False)
class Request(Generic[Response]):
    """A request and the type of its response.

    Attributes:
        path: starts with a slash; relative to the URL of the service.
        decode: builds the response from the content of a successful HTTP response. Raises ValueError.
        repeatable: the request has the same effect if the service receives it twice. Only such a request is repeated
            after a failure that does not show whether the service received it.
        archive: zip file that is streamed as the body.
    """

    method: Method
    path: str
    decode: Callable[[bytes], Response]
    query: Mapping[str, Any] = field(default_factory=dict)
    body: Body | None = None
    archive: Path | None = None
    headers: Mapping[str, str] = field(default_factory=dict)
    repeatable: bool = True

    def __repr__(self) -> str:
        return f"<{self.method} {self.path}>"


@dataclass(frozen=True)
class Listing(Generic[Item]):
    """A list that the service returns page by page."""

    first: Request[Page[Item]]

    def page(self, cursor: str | None) -> Request[Page[Item]]:
        """Returns the request of the page that starts at a cursor; None: of the first page."""
        return replace(self.first, query={**self.first.query, **without_none(cursor=cursor)})


def path_of(*parts: object) -> str:
    """Returns a path; percent-encodes every reserved character of its parts."""
    return "".join(f"/{quote(str(part), safe='')}" for part in parts)


def nothing(_: bytes) -> None:
    """Decodes the response of an operation without a response document."""


def text(content: bytes) -> str:
    return content.decode()


def _json(value: Any) -> str:
    return json.dumps(value, default=_scalar, allow_nan=False)


def _scalar(value: object) -> str:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, uuid.UUID):
        return str(value)
    raise TypeError(f"{type(value).__name__} has no JSON form; use text, numbers, booleans, lists and dictionaries")


def _text(value: Any) -> str:
    """Returns the text of a form field: JSON, except for text, times and UUIDs."""
    if isinstance(value, str):
        return value
    return _scalar(value) if isinstance(value, datetime | uuid.UUID) else _json(value)
