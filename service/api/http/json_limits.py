"""Reads a JSON body and limits its structure before it is parsed.

Parsing `[],[],…` takes 35 times the size of the text in memory. Pictures are long strings and cost nothing of the kind.
"""

import numpy as np
from fastapi import Request

from service.errors import MalformedBody

MAX_ELEMENTS = 200_000
"""Maximum number of brackets, braces and commas. A request with 32 embeddings of 4,096 numbers has 131,000."""
STRUCTURAL = np.frombuffer(b"[{,", np.uint8)
CHUNK = 64 * 1024


async def read_json(request: Request) -> bytearray:
    """Returns the body. Raises MalformedBody as soon as it has too many elements."""
    body, elements = bytearray(), 0
    async for chunk in request.stream():
        for start in range(0, len(chunk), CHUNK):
            elements += count_elements(chunk[start : start + CHUNK])
            require_few(elements)
        body += chunk
    return body


def count_elements(text: bytes) -> int:
    """Returns the number of brackets, braces and commas, including those within strings."""
    values = np.frombuffer(text, np.uint8)
    return sum(int(np.count_nonzero(values == character)) for character in STRUCTURAL)


def require_few(elements: int) -> None:
    """Raises MalformedBody for more than `MAX_ELEMENTS` elements."""
    if elements > MAX_ELEMENTS:
        raise MalformedBody(f"the JSON has more than {MAX_ELEMENTS:,} values; send fewer embeddings in one request")
