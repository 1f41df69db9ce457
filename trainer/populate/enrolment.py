"""Registers a folder of people into a running registry, several people at once."""

import hashlib
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from rich.progress import track

from service.client import Registry
from service.client import operations as op
from service.errors import RegistryError

NOT_THE_PICTURES = {401, 403, 404, 503, 507}
"""Statuses of errors that every picture would have: a wrong key, no such collection, no database."""
ACCEPTED, DUPLICATE, REJECTED = "accepted", "duplicate", "rejected"


@dataclass(frozen=True)
class Outcome:
    """What became of one picture.

    Attributes:
        status: `accepted`, `duplicate` (this person has it already) or `rejected`, then with a code of
            docs/problems.md.
        seconds: of the request that it was a part of.
    """

    identity: str
    picture: Path
    status: str
    code: str
    detail: str
    seconds: float


@dataclass(frozen=True)
class Portion:
    """Pictures of one person that go in one request."""

    identity: str
    pictures: list[Path]

    @property
    def key(self) -> str:
        """The same for the same pictures: a request that is sent again enrols nothing twice."""
        content = hashlib.sha256(self.identity.encode())
        for picture in self.pictures:
            content.update(hashlib.sha256(picture.read_bytes()).digest())
        return content.hexdigest()


def portions(people: Sequence[tuple[str, Sequence[Path]]], size: int) -> list[list[Portion]]:
    """For every person the requests that enrol them, which follow one another."""
    return [
        [Portion(name, list(pictures[start : start + size])) for start in range(0, len(pictures), size)]
        for name, pictures in people
    ]


def populate(registry: Registry, people: list[list[Portion]], collection: str, clients: int) -> Iterator[Outcome]:
    """Enrol everybody, `clients` people at once; one outcome for each picture.

    Raises:
        RegistryError: it is not the pictures that are refused; Unavailable where the registry can't be reached.
    """
    with ThreadPoolExecutor(clients) as pool:
        enrolled = pool.map(lambda person: _enrol(registry, person, collection), people)
        for outcomes in track(enrolled, total=len(people), description="registering people"):
            yield from outcomes


def _enrol(registry: Registry, person: Sequence[Portion], collection: str) -> list[Outcome]:
    return [outcome for portion in person for outcome in _send(registry, portion, collection)]


def _send(registry: Registry, portion: Portion, collection: str) -> list[Outcome]:
    started = time.monotonic()
    operation = op.register(portion.identity, portion.pictures, collection=collection, idempotency_key=portion.key)
    try:
        answer = registry.send(operation)
        told: list[tuple[str, str | None, str | None]] = [
            (view.status, view.code, view.detail) for view in answer.images
        ]
    except RegistryError as error:
        if error.status in NOT_THE_PICTURES:
            raise
        one_by_one = error.extensions.get("images") or [{}] * len(portion.pictures)
        told = [(REJECTED, why.get("code", error.code), why.get("detail", error.detail)) for why in one_by_one]
    seconds = time.monotonic() - started
    return [
        Outcome(portion.identity, picture, status, code or "", detail or "", seconds)
        for picture, (status, code, detail) in zip(portion.pictures, told, strict=True)
    ]
