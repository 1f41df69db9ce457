"""The address of the client, also behind proxies: Forwarded (RFC 7239) or X-Forwarded-For of trusted proxies."""

import ipaddress
import re
from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network
FORWARDED, FORWARDED_FOR, FORWARDED_PROTO = "forwarded", "x-forwarded-for", "x-forwarded-proto"
MAX_PROXIES = 20
"""Maximum number of addresses that are read from a header, the last ones."""
MAX_ELEMENT = 500
"""Maximum number of characters of an element. Searching it for parameters takes a time that grows with the square."""
PARAMETER = re.compile(r"\s*([A-Za-z]+)\s*=\s*(?:\"((?:[^\"\\]|\\.)*)\"|([^\s;\"]*))\s*(?:;|$)")
WITH_PORT = re.compile(r"\[([^\]]+)\](?::.*)?|([0-9]+\.[0-9.]+):.*")
SCHEMES = {"http", "https"}


class ClientAddress:
    """Sets `client_address` of each request, and its scheme, from the header that trusted proxies add.

    A proxy adds the address from which it received the request to the end of the header. So the client is the last
    address that is not that of a trusted proxy: what stands before it, the client itself may have sent.

    Args:
        proxies: networks of the trusted proxies. Programs that connect through a Unix socket are trusted.
        header: the header that the proxies set: Forwarded or X-Forwarded-For.
        recorded: False: `client_address` is None.
    """

    def __init__(self, app: ASGIApp, proxies: Sequence[Network], header: str, recorded: bool) -> None:
        self._app, self._proxies, self._header, self._recorded = app, proxies, header, recorded

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] in ("http", "websocket"):
            peer = None if scope.get("client") is None else address_of(scope["client"][0])
            headers = Headers(scope=scope)
            if peer is None or self._is_proxy(peer):
                scope["scheme"] = self._scheme(headers, scope["scheme"])
                peer = self._client(headers, peer)
            # A program of this machine needs no address.
            is_known = self._recorded and peer is not None and not peer.is_loopback
            scope["client_address"] = str(peer) if is_known else None
        await self._app(scope, receive, send)

    def _is_proxy(self, address: Address) -> bool:
        return any(address in network for network in self._proxies)

    def _client(self, headers: Headers, peer: Address | None) -> Address | None:
        """Returns the last address that is not a proxy's; an unreadable one hides those before it."""
        for element in reversed(self._elements(headers)):
            text = parameters_of(element).get("for", "") if self._header == FORWARDED else element
            address = address_of(text)
            if address is None:
                return peer
            peer = address
            if not self._is_proxy(address):
                break
        return peer

    def _elements(self, headers: Headers) -> list[str]:
        """Returns the last elements of the header. An element that is too long for an address is empty."""
        # Not by quotes: one that the client has sent would swallow what the proxy adds. No address has a comma.
        elements = [element for value in headers.getlist(self._header) for element in value.rsplit(",", MAX_PROXIES)]
        return [element if len(element) <= MAX_ELEMENT else "" for element in elements[-MAX_PROXIES:]]

    def _scheme(self, headers: Headers, scheme: str) -> str:
        if self._header == FORWARDED:
            elements = self._elements(headers)
            sent = parameters_of(elements[-1]).get("proto", "") if elements else ""
        else:
            sent = headers.get(FORWARDED_PROTO, "").rpartition(",")[2]
        sent = sent.strip().lower()
        is_socket = scheme in ("ws", "wss")
        return (sent.replace("http", "ws") if is_socket else sent) if sent in SCHEMES else scheme


def parameters_of(element: str) -> dict[str, str]:
    """Returns the parameters of an element of the header Forwarded, by their names in lower case."""
    return {
        name.lower(): re.sub(r"\\(.)", r"\1", quoted) if quoted else token
        for name, quoted, token in PARAMETER.findall(element)
    }


def address_of(text: str) -> Address | None:
    """Returns the IP address of a text such as `192.0.2.1:80` or `[2001:db8::1]:80`; None: it is no address."""
    text = text.strip()
    if "%" in text:  # a zone of the proxy's own network
        return None
    match = WITH_PORT.fullmatch(text)
    try:
        address = ipaddress.ip_address(text if match is None else match.group(1) or match.group(2))
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
