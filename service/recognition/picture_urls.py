"""Fetches pictures from URLs. Only hosts that the operator allows are contacted."""

import asyncio
from collections.abc import Sequence

import aiohttp

from service.errors import ImageTooLarge, UrlNotAllowed, UrlUnreachable
from service.recognition.allowed_hosts import is_allowed

TIMEOUT_S = 10
CHUNK_BYTES = 64 * 1024


async def fetch(url: str, allowed: Sequence[str], max_bytes: int) -> bytes:
    """Returns the bytes at a URL.

    Redirects are not followed: they could lead to a host that is not allowed, or into the local network.

    Args:
        allowed: hosts in lower case, with the port if it is not the default port of the scheme.

    Raises:
        UrlNotAllowed: the host is not allowed, or the scheme is neither http nor https.
        UrlUnreachable: there is no response within ten seconds, or its status is not 200.
        ImageTooLarge: the response has more than `max_bytes` bytes.
    """
    _require_allowed(url, allowed)
    try:
        async with (
            asyncio.timeout(TIMEOUT_S),
            aiohttp.ClientSession() as session,
            session.get(url, allow_redirects=False) as response,
        ):
            if response.status != 200:
                raise UrlUnreachable(f"the URL returns HTTP status {response.status}; 200 is required", pointer="/url")
            return await _read(response, max_bytes)
    except (aiohttp.ClientError, TimeoutError, ValueError):
        raise UrlUnreachable(f"the URL does not respond within {TIMEOUT_S} s", pointer="/url") from None


async def _read(response: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    content = bytearray()
    async for chunk in response.content.iter_chunked(CHUNK_BYTES):
        content += chunk
        if len(content) > max_bytes:
            raise ImageTooLarge(f"the file has more than {max_bytes:,} bytes (limits.max_image_bytes)", pointer="/url")
    return bytes(content)


def _require_allowed(url: str, allowed: Sequence[str]) -> None:
    if not is_allowed(url, allowed):
        raise UrlNotAllowed(
            "the host is not in the setting classifier.allowed_url_hosts; send the picture itself",
            pointer="/url",
        )
