"""What `python -m service audit` does."""

import json
import uuid
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection

from service.cli.transaction import in_transaction
from service.errors import StartupError
from service.gallery.access import audit
from service.gallery.access.audit import ChainBrokenError, Head
from service.gallery.people import collections
from service.runtime.secret_keys import open_audit_trail
from service.runtime.settings import load_settings


@dataclass(frozen=True)
class Verdict:
    """`collection`: its name; None: it was deleted. `entries`: how many a whole chain has. `problem`: what is wrong
    with one that is not whole.
    """

    collection_id: uuid.UUID
    collection: str | None
    entries: int
    problem: str | None


def verify(heads: Path | None) -> list[Verdict]:
    """Go through every chain. `heads`: what `audit heads` wrote before.

    Raises:
        StartupError: there is no key, or the file is not one of heads.
    """
    settings = load_settings()
    trail = open_audit_trail(settings)
    if not trail.enabled:
        raise StartupError("there is no key to check the trail with: set audit.key")
    known = [] if heads is None else _read(heads)

    async def check(connection: AsyncConnection) -> list[Verdict]:
        verdicts = []
        names = await collections.names(connection)
        for collection_id in sorted({*await audit.chains(connection), *(head.collection_id for head in known)}):
            name = names.get(collection_id)
            mine = [head for head in known if head.collection_id == collection_id]
            try:
                verdicts.append(Verdict(collection_id, name, await trail.check(connection, collection_id, mine), None))
            except ChainBrokenError as error:
                verdicts.append(Verdict(collection_id, name, error.number, str(error)))
        return verdicts

    return in_transaction(check, snapshot=True)


def export_heads(file: Path) -> int:
    """Write where every chain ends; how many there are. Keep the file where the database's administrator can't reach.

    Raises:
        StartupError: the file exists or can't be written.
    """
    heads = in_transaction(audit.heads)
    documents = [
        {"collection_id": str(head.collection_id), "number": head.number, "code": head.code.hex()} for head in heads
    ]
    try:
        with file.open("x") as output:
            json.dump(documents, output, indent=1)
            output.write("\n")
    except OSError as error:
        raise StartupError(f"{file} can't be written: {error.strerror}") from error
    return len(heads)


def _read(file: Path) -> list[Head]:
    try:
        documents = json.loads(file.read_text())
        documents = documents["heads"] if isinstance(documents, dict) else documents
        return [
            Head(uuid.UUID(item["collection_id"]), int(item["number"]), bytes.fromhex(item["code"]), b"")
            for item in documents
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StartupError(f"{file} is not a file of heads: {error}") from None
