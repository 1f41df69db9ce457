"""Pictures that a request names by address, from the hosts that the operator allows and no others."""

import asyncio
from collections.abc import Sequence
from urllib.parse import urlsplit

import aiohttp

from service.errors import ImageTooLarge, UrlNotAllowed, UrlUnreachable

TIMEOUT_S = 10
BATCH = 64 * 1024


async def fetch(url: str, allowed: Sequence[str], max_bytes: int) -> bytes:
    """The bytes behind an address.

    Redirects are not followed: they could lead to a host that nobody allowed, or into the machine's own network.

    Args:
        allowed: hosts in lower case, with their port where it is not the usual one.

    Raises:
        UrlNotAllowed: another host, or neither http nor https.
        UrlUnreachable: no answer within ten seconds, or one that is not a file.
        ImageTooLarge
    """
    _require_allowed(url, allowed)
    try:
        async with (
            asyncio.timeout(TIMEOUT_S),
            aiohttp.ClientSession() as session,
            session.get(url, allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                raise UrlUnreachable(f"the address answers with HTTP {answer.status}", pointer="/url")
            return await _read(answer, max_bytes)
    except (aiohttp.ClientError, TimeoutError, ValueError):
        raise UrlUnreachable("the address does not answer", pointer="/url") from None


async def _read(answer: aiohttp.ClientResponse, max_bytes: int) -> bytes:
    content = bytearray()
    async for portion in answer.content.iter_chunked(BATCH):
        content += portion
        if len(content) > max_bytes:
            raise ImageTooLarge(f"the file has more than the {max_bytes:,} bytes that are allowed", pointer="/url")
    return bytes(content)


def _require_allowed(url: str, allowed: Sequence[str]) -> None:
    try:
        parts = urlsplit(url)
        usual = {"http": 80, "https": 443}.get(parts.scheme)
        named = parts.hostname if parts.port in (None, usual) else f"{parts.hostname}:{parts.port}"
    except ValueError:
        named, parts = None, None
    if parts is None or parts.scheme not in {"http", "https"} or named not in allowed or parts.username is not None:
        raise UrlNotAllowed(
            "pictures are taken from the hosts of the setting classifier.allowed_url_hosts alone; send the picture itself",
            pointer="/url",
        )
