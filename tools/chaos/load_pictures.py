"""The load that needs models: pictures in a collection that migrates between two models, and the migrations."""

import random
import time
from base64 import b64encode
from typing import Any

from tools.chaos.ledger import Fate, Ledger, Person
from tools.chaos.load_embeddings import erase, register
from tools.chaos.material import FACES, MODEL_IDS, portrait
from tools.chaos.requests import Client, Outcome, new_key

POLL_S = 0.3
RETRY = 0.5
PAUSE_S = (0.0, 0.6)
ENOUGH = 60
"""Number of people in the collection from which on more of them are erased than registered."""


class PictureLoad:
    """Registers, erases, searches and verifies people by pictures."""

    def __init__(self, client: Client, ledger: Ledger, rng: random.Random, collection: str) -> None:
        self._client, self._ledger, self._rng, self._collection = client, ledger, rng, collection
        self._own: list[tuple[Person, int]] = []
        self._number = 0

    def __call__(self) -> None:
        while not self._client.stopped.is_set():
            self._own = [(person, subject) for person, subject in self._own if person.settled]
            weights = [5, 3, 2 if len(self._own) < ENOUGH else 12, 2, 2]
            operations = [self._create, self._add, self._erase, self._search, self._verify]
            self._rng.choices(operations, weights)[0]()
            time.sleep(self._rng.uniform(*PAUSE_S))

    def _create(self) -> None:
        self._number += 1
        person = self._ledger.add(Person(self._collection, f"photo-{self._number}"))
        subject = self._rng.randrange(len(FACES))
        self._own.append((person, subject))
        self._register(person, subject)

    def _add(self) -> None:
        if self._own:
            self._register(*self._rng.choice(self._own))

    def _register(self, person: Person, subject: int) -> None:
        body: dict[str, Any] = {"external_id": person.external_id, "images": [self._picture(subject)], "force": True}
        options = {"params": {"collection": self._collection}, "json": body, "headers": new_key()}
        register(self._client, self._ledger, person, options, self._rng.random() < RETRY)

    def _erase(self) -> None:
        if self._own:
            person, _ = self._rng.choice(self._own)
            if person.fate is Fate.PRESENT:
                erase(self._client, self._ledger, person)

    def _search(self) -> None:
        body = {"image": self._picture(self._rng.randrange(len(FACES)))}
        self._client.send("search picture", "POST", "/search", params={"collection": self._collection}, json=body)

    def _verify(self) -> None:
        if self._own:
            person, subject = self._rng.choice(self._own)
            if person.fate is Fate.PRESENT:
                body = {"image": self._picture(subject), "identity_id": person.identity_id}
                params = {"collection": self._collection}
                self._client.send("verify picture", "POST", "/verify", params=params, json=body)

    def _picture(self, subject: int) -> str:
        return b64encode(portrait(subject, self._rng)).decode()


class MigrationLoad:
    """Migrates a collection between the two models, again and again."""

    def __init__(self, client: Client, ledger: Ledger, collection: str) -> None:
        self._client, self._ledger = client, ledger
        self._path = f"/collections/{collection}/model-migration"

    def __call__(self) -> None:
        while not self._client.stopped.is_set():
            self._step()
            time.sleep(POLL_S)

    def settle(self, timeout_s: float) -> None:
        """Completes a migration that has been started. Records a violation if it does not end in time."""
        deadline = time.monotonic() + timeout_s
        while (state := self._state()) is None or state["secondary_model_id"] is not None:
            self._step()
            if time.monotonic() > deadline:
                self._client.violate(f"the model migration does not end: {state}")
                return
            time.sleep(POLL_S)

    def _state(self) -> dict[str, Any] | None:
        reply = self._client.send("read migration", "GET", self._path)
        return reply.body if reply.outcome is Outcome.ACKNOWLEDGED else None

    def _step(self) -> None:
        """Starts a migration, continues an incomplete one, or deletes the former model after a complete one."""
        state = self._state()
        if state is None:
            return
        active, secondary = state["model_id"], state["secondary_model_id"]
        if secondary is None:
            if not self._client.stopped.is_set():
                other = next(model for model in MODEL_IDS if model != active)
                self._start(other)
        elif not state["auto_activate"]:  # the exchange of the models clears auto_activate
            reply = self._client.send("delete former model", "DELETE", self._path, params={"model_id": secondary})
            if reply.outcome is Outcome.ACKNOWLEDGED:
                self._ledger.migrations += 1
        elif state["coverage"]["missing"] and (state["job"] is None or state["job"]["finished_at"]):
            self._start(secondary)

    def _start(self, model_id: str) -> None:
        self._client.send("start migration", "POST", self._path, json={"model_id": model_id, "auto_activate": True})
