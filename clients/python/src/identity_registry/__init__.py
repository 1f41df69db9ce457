"""Client of the identity registry, a self-hosted face recognition service.

    from identity_registry import Registry

    with Registry("http://127.0.0.1:8000", api_key="ir_…") as registry:
        registry.register("ada", ["ada.jpg"])
        for candidate in registry.search("someone.jpg", fpir=0.01).results[0].candidates:
            print(candidate.label, candidate.match)
        for identity in registry.list_identities():
            print(identity.label)

`AsyncRegistry` has the same operations for asyncio. `identity_registry.errors` has one class for each error code.
"""

from identity_registry.clients import AsyncRegistry, Registry
from identity_registry.errors import RegistryError, Unavailable, Unreachable
from identity_registry.inputs import UNSET, Picture
from identity_registry.retries import RetryPolicy

__all__ = [
    "UNSET",
    "AsyncRegistry",
    "Picture",
    "Registry",
    "RegistryError",
    "RetryPolicy",
    "Unavailable",
    "Unreachable",
]
