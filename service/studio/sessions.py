"""Clients of the registry for the users of the studio, one for each API key."""

import threading
from collections import OrderedDict
from dataclasses import dataclass

from identity_registry import Registry
from identity_registry.errors import NotAllowed
from identity_registry.responses.collections import Collection
from identity_registry.responses.identities import Identity
from identity_registry.retries import RetryPolicy
from service.studio.texts import Texts

MAX_CLIENTS = 64
"""Clients that stay open. Each has its own connections."""
TIMEOUT_S = 60.0
MAX_CHOICES = 500
"""Identities and collections that a list offers; others are found by their external id or name."""
RETRIES = RetryPolicy(max_attempts=2, max_wait_s=3.0)
"""A user who waits sees an error soon."""


@dataclass(frozen=True)
class Session:
    """What a handler of the studio works with: the user's client, the chosen collection and the texts."""

    registry: Registry
    collection: str
    texts: Texts

    def read_collection(self) -> Collection:
        return self.registry.read_collection(self.collection)

    def identities(self) -> list[Identity]:
        """Returns the first identities of the collection. Raises RegistryError."""
        found = self.registry.list_identities(collection=self.collection, fields="label", page_size=MAX_CHOICES)
        return [identity for identity, _ in zip(found, range(MAX_CHOICES), strict=False)]

    def choices(self) -> list[tuple[str, str]]:
        """Returns the names of the first identities with their ids; nothing if the key may not read them."""
        try:
            return [(name_of(identity), str(identity.id)) for identity in self.identities()]
        except NotAllowed:
            return []

    def find(self, choice: str) -> Identity:
        """Returns the identity that a list contains or whose external id was typed. Raises RegistryError."""
        for identity in self.registry.list_identities(collection=self.collection, external_id=choice, page_size=1):
            return identity
        return self.registry.read_identity(choice, collection=self.collection)


class Clients:
    """Opens one client for each API key, and closes those that were not used for the longest time.

    Args:
        url: of the registry.
        api_key: key for users who enter none.
    """

    def __init__(self, url: str, api_key: str | None = None) -> None:
        self._url, self._api_key = url, api_key
        self._clients: OrderedDict[str | None, Registry] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, entered_key: str | None) -> Registry:
        """Returns the client for the key that a user has entered; empty: for the configured key, or without one."""
        key = (entered_key or "").strip() or self._api_key
        with self._lock:
            if key not in self._clients:
                self._clients[key] = Registry(self._url, key, timeout_s=TIMEOUT_S, retries=RETRIES)
            self._clients.move_to_end(key)
            if len(self._clients) > MAX_CLIENTS:
                _, oldest = self._clients.popitem(last=False)
                oldest.close()
            return self._clients[key]

    def close(self) -> None:
        with self._lock:
            for client in self._clients.values():
                client.close()
            self._clients.clear()


def name_of(identity: Identity) -> str:
    """Returns the label of an identity, with its external id if that differs."""
    if identity.label == identity.external_id:
        return identity.label
    return f"{identity.label} ({identity.external_id})"
