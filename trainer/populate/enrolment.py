"""Registers folders of pictures in a running registry, several identities in parallel."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from identity_registry import Registry, RegistryError
from identity_registry.errors import (
    NotAllowed,
    NotFound,
    StorageFull,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnexpectedResponse,
)
from trainer.progress import track

EVERY_REQUEST_FAILS = (
    NotAllowed,
    NotFound,
    StorageFull,
    TooManyRequests,
    Unauthorized,
    Unavailable,
    UnexpectedResponse,
)
"""Errors that do not depend on the pictures, such as a wrong API key or a missing collection."""
ACCEPTED, DUPLICATE, REJECTED = "accepted", "duplicate", "rejected"


@dataclass(frozen=True)
class Outcome:
    """Result of one picture.

    Attributes:
        status: `accepted`, `duplicate` (the identity has this face already) or `rejected`.
        code: error code of the API if the picture is rejected, else empty.
        seconds: duration of the request that contained the picture.
    """

    identity: str
    picture: Path
    status: str
    code: str
    detail: str
    seconds: float


@dataclass(frozen=True)
class Batch:
    """Pictures of one identity that one request contains."""

    identity: str
    pictures: list[Path]

    @property
    def key(self) -> str:
        """Idempotency key: equal for equal pictures, so that a repeated command enrols no picture twice."""
        content = hashlib.sha256(self.identity.encode())
        for picture in self.pictures:
            content.update(hashlib.sha256(picture.read_bytes()).digest())
        return content.hexdigest()


def batches_of(identities: Sequence[tuple[str, Sequence[Path]]], size: int) -> list[list[Batch]]:
    """Returns the batches of each identity, with at most `size` pictures in a batch."""
    return [
        [Batch(name, list(pictures[start : start + size])) for start in range(0, len(pictures), size)]
        for name, pictures in identities
    ]


def populate(registry: Registry, identities: list[list[Batch]], collection: str, clients: int) -> Iterator[Outcome]:
    """Registers all batches, `clients` identities in parallel. Yields one outcome for each picture.

    Raises:
        RegistryError: the registry cannot be reached, or refuses every request independently of its pictures.
    """
    with ThreadPoolExecutor(clients) as pool:
        enrolled = pool.map(lambda batches: _enrol(registry, batches, collection), identities)
        for outcomes in track(enrolled, total=len(identities), description="registering identities"):
            yield from outcomes


def _enrol(registry: Registry, batches: Sequence[Batch], collection: str) -> list[Outcome]:
    return [outcome for batch in batches for outcome in _register(registry, batch, collection)]


def _register(registry: Registry, batch: Batch, collection: str) -> list[Outcome]:
    started = time.monotonic()
    try:
        response = registry.register(batch.identity, batch.pictures, collection=collection, idempotency_key=batch.key)
        results: list[tuple[str, str | None, str | None]] = [
            (image.status, image.code, image.detail) for image in response.images
        ]
    except EVERY_REQUEST_FAILS:
        raise
    except RegistryError as error:
        reasons = error.extensions.get("images") or [{}] * len(batch.pictures)
        results = [(REJECTED, reason.get("code", error.code), reason.get("detail", error.detail)) for reason in reasons]
    seconds = time.monotonic() - started
    return [
        Outcome(batch.identity, picture, status, code or "", detail or "", seconds)
        for picture, (status, code, detail) in zip(batch.pictures, results, strict=True)
    ]
