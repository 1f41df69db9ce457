"""`Idempotency-Key`: how a client names a request that it may have to send again."""

import hashlib
import json
from typing import Annotated

from fastapi import Header

from service.api.schemas.all_schemas import RegisterRequest

IdempotencyKey = Annotated[
    str | None,
    Header(
        min_length=1,
        max_length=255,
        pattern=r"^[!-~]+$",
        description="your name for this request, such as a UUID; sent again with it, it is answered and not repeated",
    ),
]


def digest(body: RegisterRequest) -> bytes:
    """SHA-256 of all that a request says; pictures by their own digests, JSON and multipart alike."""
    words = body.model_dump(mode="json", exclude={"images"})
    words["images"] = [hashlib.sha256(image).hexdigest() for image in body.images]
    return hashlib.sha256(json.dumps(words, sort_keys=True).encode()).digest()
