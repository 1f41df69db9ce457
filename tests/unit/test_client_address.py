"""The client's address behind proxies: RFC 7239 and X-Forwarded-For, with clients that send such headers themselves."""

from ipaddress import ip_network
from typing import Any

import anyio
import pytest
from hypothesis import given
from hypothesis import strategies as st

from service.api.http.client_address import MAX_PROXIES, ClientAddress, address_of, parameters_of

PROXIES = [ip_network("127.0.0.1"), ip_network("10.0.0.0/8"), ip_network("2001:db8:1::/48")]


def seen(
    headers: list[tuple[str, str]],
    peer: str | None = "127.0.0.1",
    header: str = "x-forwarded-for",
    recorded: bool = True,
) -> tuple[str | None, str]:
    """Returns address and scheme that the application sees."""
    found: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        found.append(scope)

    scope = {
        "type": "http",
        "scheme": "http",
        "client": None if peer is None else (peer, 1),
        "headers": [(name.lower().encode(), value.encode("latin-1")) for name, value in headers],
    }
    anyio.run(ClientAddress(app, PROXIES, header, recorded), scope, None, None)
    return found[0]["client_address"], found[0]["scheme"]


@pytest.mark.parametrize(
    ("value", "address"),
    [
        ("203.0.113.9", "203.0.113.9"),
        ("203.0.113.9, 10.1.2.3", "203.0.113.9"),
        ("198.51.100.1, 203.0.113.9", "203.0.113.9"),  # the client has sent the first one
        ("198.51.100.1, 203.0.113.9, 10.1.2.3, 10.9.9.9", "203.0.113.9"),
        ("203.0.113.9:4711", "203.0.113.9"),
        ("[2001:db8::7]:4711", "2001:db8::7"),
        ("2001:db8::7", "2001:db8::7"),
        ("::ffff:203.0.113.9", "203.0.113.9"),
        ('", 203.0.113.9', "203.0.113.9"),  # an open quote does not hide what follows
        ("fe80::1%eth0", None),
        ("203.0.113.9, unknown", None),  # what stands before an unreadable address may be forged
        ("203.0.113.9, unknown, 10.0.0.1", "10.0.0.1"),
        ("10.0.0.1", "10.0.0.1"),  # the client is a trusted machine itself
        ("", None),
        ("999.1.1.1", None),
    ],
)
def test_the_last_address_that_is_no_proxy_is_the_client(value: str, address: str | None) -> None:
    assert seen([("X-Forwarded-For", value)])[0] == address


@pytest.mark.parametrize(
    ("value", "address", "scheme"),
    [
        ("for=203.0.113.9;proto=https;by=10.0.0.1", "203.0.113.9", "https"),
        ('For="[2001:db8::7]:4711";Proto=HTTPS', "2001:db8::7", "https"),
        ('for=198.51.100.1, for="203.0.113.9:80" ; proto=http , for=10.0.0.2;proto=https', "203.0.113.9", "https"),
        ('for="x, for=203.0.113.9;proto=https', "203.0.113.9", "https"),
        ("for=_hidden", None, "http"),
        ("for=unknown", None, "http"),
        ("proto=https", None, "https"),
        ('for="203.0.113.9', None, "http"),
        ("proto=javascript", None, "http"),
    ],
)
def test_forwarded_of_rfc_7239(value: str, address: str | None, scheme: str) -> None:
    assert seen([("Forwarded", value)], header="forwarded") == (address, scheme)


def test_several_fields_are_one_list() -> None:
    sent = [("X-Forwarded-For", "198.51.100.1"), ("X-Forwarded-For", "203.0.113.9")]
    assert seen(sent)[0] == "203.0.113.9"


def test_headers_of_other_peers_are_ignored() -> None:
    forged = [("X-Forwarded-For", "203.0.113.9"), ("Forwarded", "for=203.0.113.9"), ("X-Forwarded-Proto", "https")]
    assert seen(forged, peer="198.51.100.1") == ("198.51.100.1", "http")
    assert seen([forged[1]]) == (None, "http")  # the proxies set the other header
    assert seen([forged[0]], header="forwarded") == (None, "http")
    assert seen(forged, recorded=False) == (None, "https")
    assert seen([forged[0]], peer=None)[0] == "203.0.113.9"  # through a Unix socket


def test_a_long_element_is_not_searched() -> None:
    """64 kB of letters, the longest header, would block the event loop for half a minute."""
    for value in ("a" * 60_000, "for=203.0.113.9;" + "a" * 60_000, ";".join(["for=203.0.113.9"] * 4_000)):
        assert seen([("Forwarded", value)], header="forwarded") == (None, "http")
    assert seen([("Forwarded", "a" * 60_000 + ",for=203.0.113.9")], header="forwarded")[0] == "203.0.113.9"


def test_a_long_header_is_read_in_part() -> None:
    value = ", ".join(["203.0.113.9", *["10.0.0.1"] * MAX_PROXIES])
    assert seen([("X-Forwarded-For", value)])[0] == "10.0.0.1"


@given(st.text(st.characters(max_codepoint=255), max_size=100))
def test_no_header_raises(value: str) -> None:
    seen([("X-Forwarded-For", value), ("X-Forwarded-Proto", value)])
    seen([("Forwarded", value)], header="forwarded")
    assert isinstance(parameters_of(value), dict)
    address_of(value)
