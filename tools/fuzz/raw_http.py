"""Requests with errors in the HTTP syntax: request lines, headers, lengths, chunks and multipart boundaries."""

import random
from collections.abc import Callable

from tools.fuzz.mutations import mutate

HOSTS = ("[::1", "[::x]", "]", "a[b]", "", "localhost:99999999", "localhost:-1", "\xbd", "a/b", "user@localhost", "::1")
ORIGINS = (
    "http://[::1",
    "http://[",
    "null",
    "//]",
    "http://\xbd",
    "http://a:b:c",
    "javascript:",
    "\x7f",
    "http://" + "a" * 5000,
)
TARGETS = (
    "/", "//", "/healthz/", "/%00", "/%", "/%zz", "/..%2f..", "*", "http://[::1/", "http://x/healthz",
    "/identities?%00=1", "/identities/%ED%A0%80", "/" + "a" * 70_000,
    "/identities?filter=%7B%22a%22:NaN%7D", "/identities?limit=" + "9" * 6000, "/?" + "&" * 3000, "/docs/x",
    "/docs/oauth2-redirect", "/openapi.json", "/metrics", "/static-offline-docs/..%2f",
)  # fmt: skip
VERSIONS = (
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.1",
    "HTTP/1.0",
    "HTTP/2.0",
    "HTTP/0.9",
    "HTTP",
    "",
    "http/1.1",
    "HTTP/1.1 x",
)
PATHS = ("/search", "/register", "/verify", "/embed", "/jobs/enrolments", "/collections", "/identities")
LENGTHS = ("0", "-1", "1", "99999", "9" * 30, "9" * 6000, "+5", "0x10", "5, 5", " 5", "\xb2", "5.0", "", "1e3")
BOUNDARIES = ("x", "", '"x', "x" * 5000, "\x00", "y; charset=undefined", '"x"; charset=utf-16', "é", "x\r\n")
CHUNK_SIZES = ("0", "5", "ffffffffffffffff", "-1", "5;ext=" + "a" * 300, "zz", "", "00000005", "7fffffff")
DISPOSITIONS = (
    'form-data; name="image"; filename="x"', 'form-data; name="label"', "form-data", 'form-data; name="', "attachment",
    'form-data; name="metadata"', "form-data; name*=utf-8''%ff%fe", 'form-data; name="a\x00"', "form-data; name=\xff",
    'form-data; name="image"; filename="\\"', 'form-data; name="' + "a" * 9000 + '"', "", 'form-data; name="filter"',
)  # fmt: skip


def make(rng: random.Random, host: str, key: str) -> bytes:
    """Returns the bytes of a request."""
    data = rng.choice(KINDS)(rng, host, key)
    return mutate(rng, data, data) if rng.random() < 0.3 else data


def _headers(rng: random.Random, host: str, key: str) -> list[str]:
    lines = [f"Host: {rng.choice(HOSTS) if rng.random() < 0.2 else host}"]
    if rng.random() < 0.7:
        lines.append(f"X-API-Key: {key}")
    if rng.random() < 0.2:
        lines.append(f"Origin: {rng.choice(ORIGINS)}")
    if rng.random() < 0.1:
        lines += rng.choice(
            (["Broken"], [": x"], ["A" * 9000 + ": x"], ["X: " + "y" * 70_000], [" folded"], ["X:\x00"])
        )
    return [*lines, "Connection: close"]


def _request(first: str, headers: list[str], body: bytes = b"") -> bytes:
    return "\r\n".join([first, *headers, "", ""]).encode("latin-1", "replace") + body


def _line(rng: random.Random, host: str, key: str) -> bytes:
    method = rng.choice(("GET", "GET", "POST", "DELETE", "get", "CONNECT", "TRACE", "G\x00T", "", "A" * 300))
    return _request(f"{method} {rng.choice(TARGETS)} {rng.choice(VERSIONS)}", _headers(rng, host, key))


def _length(rng: random.Random, host: str, key: str) -> bytes:
    body = rng.choice((b"{}", b'{"name": "x"}', b"[" * 3000, b"\xff\xfe", b"", b'{"a": ' + b"9" * 6000 + b"}"))
    length = rng.choice(LENGTHS) if rng.random() < 0.6 else str(len(body))
    kind = rng.choice(("application/json", "application/json", "application/zip", "text/plain"))
    headers = [*_headers(rng, host, key), f"Content-Type: {kind}", f"Content-Length: {length}"]
    if rng.random() < 0.2:
        headers.append("Transfer-Encoding: chunked")
    return _request(f"POST {rng.choice(PATHS)} HTTP/1.1", headers, body)


def _chunked(rng: random.Random, host: str, key: str) -> bytes:
    encoding = rng.choice(
        ("chunked", "chunked", "chunked", "gzip, chunked", "identity", "chunked, chunked", "xchunked")
    )
    headers = [*_headers(rng, host, key), "Content-Type: application/json", f"Transfer-Encoding: {encoding}"]
    body = b""
    for _ in range(rng.randrange(4)):
        size = rng.choice(CHUNK_SIZES) if rng.random() < 0.3 else "5"
        body += size.encode() + b"\r\n" + rng.choice((b'{"a":', b"12345", b"\xff" * 5)) + b"\r\n"
    return _request(
        f"POST {rng.choice(PATHS)} HTTP/1.1", headers, body + rng.choice((b"0\r\n\r\n", b"0\r\nX: y\r\n\r\n", b""))
    )


def _multipart(rng: random.Random, host: str, key: str) -> bytes:
    boundary = rng.choice(BOUNDARIES) if rng.random() < 0.5 else "x"
    used = "x" if rng.random() < 0.7 else rng.choice(BOUNDARIES)
    parts = []
    for _ in range(rng.choice((0, 1, 1, 2, 200))):
        extra = rng.choice(
            (
                "",
                "",
                "Content-Type: text/plain; charset=utf-7\r\n",
                "Content-Transfer-Encoding: base64\r\n",
                "Broken\r\n",
            )
        )
        content = rng.choice(("x", "{}", '{"a": NaN}', "\x00", '{"a":' * 200, "9" * 6000, ""))
        disposition = rng.choice(DISPOSITIONS)
        parts.append(f"--{used}\r\nContent-Disposition: {disposition}\r\n{extra}\r\n{content}\r\n")
    body = ("".join(parts) + f"--{used}{rng.choice(('--', '--', ''))}\r\n").encode("latin-1", "replace")
    length = len(body) + rng.choice((0, 0, 0, 0, -3, 5))
    headers = [
        *_headers(rng, host, key),
        f"Content-Type: multipart/form-data; boundary={boundary}",
        f"Content-Length: {length}",
    ]
    return _request(f"POST {rng.choice(PATHS)} HTTP/1.1", headers, body)


def _pipelined(rng: random.Random, host: str, key: str) -> bytes:
    requests = (
        _line(rng, host, key).replace(b"Connection: close", b"Connection: keep-alive")
        for _ in range(rng.randrange(1, 5))
    )
    return b"".join(requests) + _length(rng, host, key)


def _noise(rng: random.Random, host: str, key: str) -> bytes:
    return rng.choice(
        (rng.randbytes(200), b"\x16\x03\x01" + rng.randbytes(100), b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", b"\r\n" * 100)
    )


KINDS: tuple[Callable[[random.Random, str, str], bytes], ...] = (
    _line, _line, _length, _length, _chunked, _multipart, _multipart, _multipart, _pipelined, _noise,
)  # fmt: skip
