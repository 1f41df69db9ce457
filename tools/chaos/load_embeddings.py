"""The load of one client that enrols supplied embeddings: register, erase, merge, correct, search, verify."""

import random
from collections.abc import Callable
from typing import Any

from tools.chaos.ledger import Fate, Ledger, Person
from tools.chaos.material import MODEL_IDS, encode, near, random_direction
from tools.chaos.requests import Client, Outcome, new_key

RETRY = 0.5
"""Probability that a registration with an unknown outcome is repeated with its idempotency key until it has one."""
TWIN = 0.3
"""Probability that a new identity shows the same person as another one; such pairs are merged."""


TOP_K = 50
"""A search returns the identity of the probe, and others of the same person, about which the outcome is unknown."""


class EmbeddingLoad:
    """Sends random operations about identities that only this client changes, and about a few shared ones.

    Args:
        prefix: start of the external ids of the identities.
        shared: identities to which every client adds templates.
    """

    def __init__(
        self, client: Client, ledger: Ledger, rng: random.Random, collection: str, prefix: str, shared: list[Person]
    ) -> None:
        self._client, self._ledger, self._rng = client, ledger, rng
        self._collection, self._prefix, self._shared = collection, prefix, shared
        self._own: list[Person] = []
        self._number = 0
        self._operations: dict[Callable[[], None], int] = {
            self._create: 30,
            self._add: 15,
            self._add_shared: 6,
            self._erase: 12,
            self._merge: 8,
            self._correct: 4,
            self._search: 12,
            self._verify: 8,
            self._read: 5,
        }

    def __call__(self) -> None:
        """Sends operations until the phase ends."""
        operations, weights = list(self._operations), list(self._operations.values())
        while not self._client.stopped.is_set():
            self._own = [person for person in self._own if person.settled]
            self._rng.choices(operations, weights)[0]()

    def _create(self) -> None:
        self._number += 1
        twin = self._rng.choice(self._own) if self._own and self._rng.random() < TWIN else None
        is_single = twin is not None and len([other for other in self._own if other.base is twin.base]) == 1
        base = twin.base if twin is not None and is_single else random_direction(self._rng)
        person = Person(self._collection, f"{self._prefix}-{self._number}", base)
        self._own.append(self._ledger.add(person))
        self._register(person)

    def _add(self) -> None:
        if person := self._choose():
            self._register(person)

    def _add_shared(self) -> None:
        self._register(self._rng.choice(self._shared))

    def _register(self, person: Person) -> None:
        assert person.base is not None
        embedding = encode(near(person.base, self._rng))
        body = {"external_id": person.external_id, "embeddings": [embedding], "model_id": MODEL_IDS[0]}
        options: dict[str, Any] = {"params": {"collection": self._collection}, "json": body, "headers": new_key()}
        register(self._client, self._ledger, person, options, self._rng.random() < RETRY)

    def _erase(self) -> None:
        if person := self._choose():
            erase(self._client, self._ledger, person)

    def _merge(self) -> None:
        target = self._choose()
        sources = [other for other in self._own if target and other.base is target.base and other is not target]
        if target is None or not sources:
            return
        source = sources[0]
        path, body = f"/identities/{target.identity_id}/merge", {"identities": [source.identity_id]}
        reply = self._client.send("merge", "POST", path, params={"collection": self._collection}, json=body)
        if reply.outcome is Outcome.ACKNOWLEDGED:
            source.fate = Fate.MERGED
        elif reply.outcome.is_unknown:
            source.fate = Fate.UNKNOWN_MERGE
        if source.fate is not Fate.PRESENT:
            target.sources.append(source)

    def _correct(self) -> None:
        if person := self._choose():
            body = {"embedding": encode(random_direction(self._rng)), "model_id": MODEL_IDS[0]}
            path = f"/identities/{person.identity_id}/corrections"
            self._client.send("correct", "POST", path, params={"collection": self._collection}, json=body)

    def _search(self) -> None:
        person = self._choose()
        if person is None or person.base is None:
            return
        embedding = encode(near(person.base, self._rng))
        body = {"embedding": embedding, "model_id": MODEL_IDS[0], "top_k": TOP_K}
        reply = self._client.send("search", "POST", "/search", params={"collection": self._collection}, json=body)
        if reply.outcome is Outcome.ACKNOWLEDGED:
            candidates = {candidate["identity_id"] for candidate in reply.body["results"][0]["candidates"]}
            if person.identity_id not in candidates:
                self._client.violate(f"a search does not return the enrolled identity {person.external_id}")

    def _verify(self) -> None:
        person = self._choose()
        if person is None or person.base is None:
            return
        body = {"embedding_a": encode(near(person.base, self._rng)), "model_id": MODEL_IDS[0]}
        body["identity_id"] = str(person.identity_id)
        reply = self._client.send("verify", "POST", "/verify", params={"collection": self._collection}, json=body)
        if reply.outcome is Outcome.ACKNOWLEDGED and reply.body["score"] < 0.5:
            self._client.violate(f"a verification of {person.external_id} has the score {reply.body['score']}")

    def _read(self) -> None:
        if person := self._choose():
            path, params = f"/identities/{person.identity_id}", {"collection": self._collection}
            reply = self._client.send("read", "GET", path, params=params)
            expected = template_count(person)
            if reply.outcome is Outcome.ACKNOWLEDGED and reply.body["template_count"] != expected:
                count = reply.body["template_count"]
                self._client.violate(f"{person.external_id} has {count} templates instead of {expected}")

    def _choose(self) -> Person | None:
        settled = [person for person in self._own if person.settled]
        return self._rng.choice(settled) if settled else None


def template_count(person: Person) -> int:
    """Returns the number of acknowledged templates, with those of merged identities."""
    return len(person.templates) + sum(template_count(source) for source in person.sources)


def register(client: Client, ledger: Ledger, person: Person, options: dict[str, Any], retry: bool) -> None:
    """Sends a registration with one face and records its outcome.

    Args:
        retry: repeat the request with the same idempotency key if its outcome is unknown.
    """
    reply = client.send("register", "POST", "/register", **options)
    is_unknown = reply.outcome.is_unknown
    if is_unknown and retry:
        reply = client.insist("register again", "POST", "/register", **options)
    if reply.outcome is Outcome.ACKNOWLEDGED:
        person.identity_id, person.fate = reply.body["identity_id"], Fate.PRESENT
        for image in reply.body["images"]:
            if image["status"] == "accepted":
                ledger.add_template(person, image["template_id"])
    elif is_unknown:
        ledger.add_template(person, None)


def erase(client: Client, ledger: Ledger, person: Person) -> None:
    """Erases an identity and records the outcome."""
    path = f"/identities/{person.identity_id}"
    reply = client.send("erase", "DELETE", path, params={"collection": person.collection})
    if reply.outcome is Outcome.ACKNOWLEDGED:
        person.fate = Fate.ERASED
        assert person.identity_id is not None
        ledger.erase(person.identity_id)
    elif reply.outcome.is_unknown:
        person.fate = Fate.UNKNOWN_ERASURE
