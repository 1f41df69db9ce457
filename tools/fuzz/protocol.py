"""Bodies and headers for the interface between API and worker."""

import random
from typing import Any

import msgpack

from service.inference.engine import Picture
from service.inference.wire import MEDIA_TYPE, OBSERVE_PATH, pack_images
from tools.fuzz import pictures
from tools.fuzz.mutations import mutate
from tools.fuzz.originals import face

SCALARS: tuple[Any, ...] = (
    None, True, 0, -1, 2**63, float("nan"), float("inf"), 1e308, "", "all", "box", "\x00", b"", b"\xff" * 40,
    msgpack.ExtType(5, b"x"), msgpack.Timestamp(2**40), msgpack.Timestamp(0, 5), [], {}, [0, 0, 1, 1],
    [float("nan")] * 4,
)  # fmt: skip
BODIES = (
    b"", b"\xc1", b"\xdd\xff\xff\xff\xff", b"\xc6\xff\xff\xff\xff", b"\xdf\xff\xff\xff\xff", b"\x91" * 2000,
    b"\x81" * 2000, b"\xd9\x05\xff\xfe", b"\xc9\x00\x00\x00\x01",
    b"\xdc\xff\xff" + b"\x90" * 65535, b"\xdd\x00\x0f\x00\x00" + b"\x90" * 983_040,
)  # fmt: skip


def make(rng: random.Random, host: str, headers: dict[str, str], seed: int, number: int) -> bytes:
    """Returns the bytes of a request. Most have the token of the worker and the list of its models."""
    body = _body(rng, seed, number)
    lines = [f"POST {OBSERVE_PATH} HTTP/1.1", f"Host: {host}", "Connection: close", f"Content-Length: {len(body)}"]
    lines.append(f"Content-Type: {MEDIA_TYPE}")
    for name, value in headers.items():
        wrong = rng.choice(("", "Bearer x", "é", "wire-1", "," * 9000, "\xff"))
        lines.append(f"{name}: {value if rng.random() < 0.95 else wrong}")
    if rng.random() < 0.05:
        lines[0] = (
            f"{rng.choice(('GET', 'POST'))} {rng.choice(('/nowhere', '/readyz', '/metrics', '/v1/observe/'))} HTTP/1.1"
        )
        lines[1] = f"Host: {rng.choice(('[::1', host, ''))}"
    return "\r\n".join(lines).encode("latin-1", "replace") + b"\r\n\r\n" + body


def _body(rng: random.Random, seed: int, number: int) -> bytes:
    if rng.random() < 0.1:
        return rng.choice(BODIES)
    data = face() if rng.random() < 0.05 else pictures.make(seed, number)
    valid = pack_images([Picture(data)])
    kind = rng.random()
    if kind < 0.2:
        return valid
    if kind < 0.5:
        return mutate(rng, valid, pack_images([Picture(b"x" * 20)]))
    return msgpack.packb(_altered(rng, msgpack.unpackb(valid)))


def _altered(rng: random.Random, items: list[Any]) -> Any:
    """Replaces, removes or adds fields of pictures."""
    items = items * rng.choice((1, 1, 1, 2, 1500))
    for _ in range(rng.choice((1, 1, 2, 3))):
        picture = rng.choice(items)
        change = rng.randrange(5)
        if change == 0 and picture:
            del picture[rng.randrange(len(picture))]
        elif change == 1:
            picture.append(rng.choice(SCALARS))
        elif picture:
            picture[rng.randrange(len(picture))] = rng.choice(SCALARS)
    return items if rng.random() < 0.95 else rng.choice((*SCALARS, {"a": items}))
