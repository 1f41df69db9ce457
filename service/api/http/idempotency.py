"""The header `Idempotency-Key`, with which a client may repeat a request safely."""

import hashlib
import json
from typing import Annotated

from fastapi import Header

from service.api.schemas.enrolment import RegisterRequest
from service.gallery.access.api_keys import ApiKey

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="unique name of this request, for example a UUID; a repeated request returns the first response",
    ),
]


def stored_key(key: str, caller: ApiKey | None) -> str:
    """Returns the name under which a response is stored: each API key has its own names."""
    return key if caller is None else f"{caller.id}/{key}"


def digest(body: RegisterRequest) -> bytes:
    """Returns the SHA-256 of a request: the same for JSON and multipart. Pictures enter by their own digests."""
    document = body.model_dump(mode="json", exclude={"images"})
    document["images"] = [hashlib.sha256(image).hexdigest() for image in body.images]
    return hashlib.sha256(json.dumps(document, sort_keys=True).encode()).digest()
