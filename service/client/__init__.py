"""A typed client of the registry's HTTP API, for programs with and without asyncio.

    from service.client import Registry, operations as op

    with Registry("http://127.0.0.1:8000", api_key="ir_…") as registry:
        registry.send(op.register("ada", ["ada.jpg"]))
        for candidate in registry.send(op.search("someone.jpg")).results[0].candidates:
            print(candidate.label, candidate.match)
        for person in registry.all(op.identities()):
            print(person.label)

An operation is a value that either client can send. Answers are the API's own documents (pydantic); problems are raised
as the service's own error classes (`service.errors`). Requests that broke off or met a 503 are sent again; a
registration carries an Idempotency-Key, so that it has its effect once.
"""

from service.client import operations
from service.client.aio import AsyncRegistry
from service.client.sync import Registry

__all__ = ["AsyncRegistry", "Registry", "operations"]
