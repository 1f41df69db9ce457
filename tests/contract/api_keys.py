"""Creates API keys in the database of the tests."""

from service.cli import key_operations as operations
from service.gallery.access.scopes import Scope


def new_key(*scopes: Scope, collection: str | None = None, days: int | None = None) -> str:
    """Creates a key with the scopes, or with all of them, and returns its secret."""
    secret = operations.create("test", scopes or list(Scope), collection, days, None, only_first=False)
    assert secret is not None
    return secret
