"""Hypothesis builds requests to every operation: paths, query strings, headers, and JSON, multipart and zip bodies."""

import random
from collections.abc import Mapping
from typing import Any
from urllib.parse import quote

from hypothesis import strategies as st

from tools.fuzz.operations import JSON, MULTIPART, ZIP, Operation
from tools.fuzz.pool import Pool, field_values
from tools.fuzz.values import (
    archive_files,
    encode,
    image_files,
    json_values,
    names,
    render,
    texts,
)

Values = Mapping[str, st.SearchStrategy[Any]]
"""Strategies of plausible values by the name of the field or parameter."""
BOUNDARY = b"boundary-of-the-fuzzer"
FILES = ("image", "image_a", "image_b", "images")
METHODS = ("GET", "POST", "PATCH", "DELETE", "PUT", "HEAD", "OPTIONS")
CONTENT_TYPES = (
    "application/json; charset=utf-16",
    "application/problem+json",
    "text/plain",
    "",
    "application/zip",
    "*/*",
)
HEADERS = (
    "X-Request-Id", "Idempotency-Key", "Origin", "Accept", "Authorization", "X-API-Key", "X-Forwarded-For", "If-Match",
    "X-Forwarded-Proto", "Accept-Encoding", "Range", "Cookie", "Expect", "traceparent", "Content-Encoding",
)  # fmt: skip
HEADER_VALUES = (
    "", "http://[::1", "null", "gzip", "http", "bytes=0-1", "100-continue", "Bearer", "Bearer \xff", "Basic Og==",
    "00-" + "0" * 32 + "-" + "0" * 16 + "-01", "é", "a" * 5000, "1", "ir_" + "a" * 43, "ir_\x7f", "*/*;q=NaN",
)  # fmt: skip


class RequestBuilder:
    """Builds strategies of requests.

    Args:
        key: secret of a key with all scopes; most requests to the guarded API contain it.
    """

    def __init__(self, operations: list[Operation], pool: Pool, key: str) -> None:
        self._operations, self._pool, self._key = operations, pool, key
        self._values = field_values(pool)

    def requests(self, host: str, with_key: bool) -> st.SearchStrategy[tuple[str, bytes]]:
        """Returns a strategy of pairs of a description and the bytes of a request."""

        @st.composite
        def request(draw: st.DrawFn) -> tuple[str, bytes]:
            operation = draw(st.sampled_from(self._operations))
            content_type, body = draw(self._body(operation))
            method = operation.method if draw(st.integers(0, 30)) else draw(st.sampled_from(METHODS))
            target = draw(_target(operation, self._pool, self._values))
            lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", "Connection: close"]
            if with_key and draw(st.integers(0, 20)):
                lines.append(f"X-API-Key: {self._key}")
            if content_type is not None:
                lines += [f"Content-Type: {content_type}", f"Content-Length: {len(body)}"]
            lines += [f"{name}: {value}" for name, value in draw(_extra_headers)]
            head = "\r\n".join(lines).encode("latin-1", "replace")
            return f"{method} {operation.path}", head + b"\r\n\r\n" + (body if content_type is not None else b"")

        return request()

    def _body(self, operation: Operation) -> st.SearchStrategy[tuple[str | None, bytes]]:
        kinds: list[st.SearchStrategy[tuple[str | None, bytes]]] = []
        if MULTIPART in operation.media_types:
            kinds.append(_form(operation, self._values))
        if JSON in operation.media_types:
            kinds += [self._json(operation)] * 2
        if ZIP in operation.media_types:
            kinds.append(archive_files.map(lambda data: (ZIP, data)))
        if not kinds:
            return st.just((None, b""))
        arbitrary = st.tuples(st.sampled_from(CONTENT_TYPES), json_values.map(lambda value: encode(render(value))))
        return st.one_of(*kinds, *kinds, *kinds, arbitrary)

    def _json(self, operation: Operation) -> st.SearchStrategy[tuple[str | None, bytes]]:
        document = self._document(operation)
        texts_of = st.builds(render, st.one_of(document, document, document, json_values), st.booleans())
        return texts_of.map(lambda text: (JSON, encode(text)))

    def _document(self, operation: Operation) -> st.SearchStrategy[dict[str, Any]]:
        plausible = {name: self._values.get(name, texts) for name in operation.fields}
        some = st.lists(st.sampled_from(operation.fields), max_size=6, unique=True)
        fields = some.flatmap(lambda chosen: st.fixed_dictionaries({name: plausible[name] for name in chosen}))
        # A valid document in which one field is replaced reaches more code than fields that do not fit together.
        if (valid := self._pool.valid_document(operation.path)) is not None:
            replaced = st.sampled_from(operation.fields).flatmap(lambda name: st.tuples(st.just(name), plausible[name]))
            fields = st.one_of(fields, replaced.map(lambda pair: {**valid, pair[0]: pair[1]}))
        wrong = st.dictionaries(st.one_of(st.sampled_from(operation.fields), names), json_values, max_size=2)
        return st.builds(
            lambda document, other: {**document, **other}, fields, st.one_of(st.just({}), st.just({}), wrong)
        )


_extra_headers: st.SearchStrategy[list[tuple[str, str]]] = st.one_of(
    st.just([]),
    st.just([]),
    st.lists(st.tuples(st.sampled_from(HEADERS), st.sampled_from(HEADER_VALUES)), max_size=3),
)


@st.composite
def _target(draw: st.DrawFn, operation: Operation, pool: Pool, values: Values) -> str:
    """Returns path and query string."""
    rng = draw(st.randoms(use_true_random=False))
    path = operation.path
    for name in operation.parameters:
        path = path.replace(f"{{{name}}}", quote(encode(pool.path_value(rng, name))[:200], safe=""))
    # A request with an invalid parameter reaches nothing else, so most parameters are absent.
    chosen = [name for name in operation.queries if draw(st.integers(0, 2)) == 0]
    pairs = [(name, _text_of(draw(values.get(name, texts)))) for name in chosen]
    if draw(st.integers(0, 40)) == 0:
        pairs.append((draw(names), draw(texts)))
    query = "&".join(f"{quote(encode(name)[:100])}={quote(encode(value)[:16_000])}" for name, value in pairs)
    return path + ("?" + query if query else "")


@st.composite
def _form(draw: st.DrawFn, operation: Operation, values: Values) -> tuple[str | None, bytes]:
    """Returns the media type with the boundary, and a multipart body."""
    parts = []
    for name in draw(st.lists(st.sampled_from(operation.fields), max_size=6)):
        if name in FILES:
            parts.append(_part(name, draw(image_files), 'filename="x"'))
        else:
            parts.append(_part(name, encode(_text_of(draw(values.get(name, texts))))))
    body = b"".join(b"--" + BOUNDARY + b"\r\n" + part + b"\r\n" for part in parts) + b"--" + BOUNDARY + b"--\r\n"
    return f"{MULTIPART}; boundary={BOUNDARY.decode()}", body


def _text_of(value: Any) -> str:
    return value if isinstance(value, str) else render(value)


def _part(name: str, data: bytes, more: str = "") -> bytes:
    disposition = f'Content-Disposition: form-data; name="{name}"' + (f"; {more}" if more else "")
    return disposition.encode() + b"\r\n\r\n" + data


def rng_of(seed: int, kind: str, number: int) -> random.Random:
    """Returns a generator that is the same for the same arguments."""
    return random.Random(f"{kind} {seed} {number}")  # noqa: S311  repeatable, not secret
