"""Verifies the audit trail and exports the heads of its chains."""

import json
import uuid
from dataclasses import dataclass
from pathlib import Path

from sqlalchemy.ext.asyncio import AsyncConnection

from service.cli.transaction import in_transaction
from service.errors import StartupError
from service.gallery.access import audit_log
from service.gallery.access.audit_entries import AnotherKeyError, ChainBrokenError, Head
from service.gallery.people import collections
from service.runtime.secret_keys import open_audit_trail
from service.runtime.settings import load_settings


@dataclass(frozen=True)
class Verdict:
    """The result for one chain.

    Attributes:
        collection: name of the collection; None: it was deleted.
        entries: number of entries of an intact chain, or the first affected entry.
        problem: None: the chain is intact.
        another_key: the chain, or a part of it, was made with another key, and is complete.
    """

    collection_id: uuid.UUID
    collection: str | None
    entries: int
    problem: str | None
    another_key: bool = False


def verify(heads: Path | None) -> list[Verdict]:
    """Verifies every chain.

    Args:
        heads: file with exported heads; None: compare with the database's own heads only.

    Raises:
        StartupError: there is no key, or the file is invalid.
    """
    audit_trail = open_audit_trail(load_settings(), create_key=False)
    if not audit_trail.enabled:
        raise StartupError("the audit trail cannot be verified without its key; set audit.key, or restore its file")
    exported = [] if heads is None else _read(heads)

    async def act(connection: AsyncConnection) -> list[Verdict]:
        verdicts = []
        names = await collections.names(connection)
        chains = {*await audit_log.chains(connection), *(head.collection_id for head in exported)}
        for collection_id in sorted(chains):
            name = names.get(collection_id)
            of_chain = [head for head in exported if head.collection_id == collection_id]
            try:
                entries = await audit_trail.verify(connection, collection_id, of_chain)
                verdicts.append(Verdict(collection_id, name, entries, None))
            except ChainBrokenError as error:
                another_key = isinstance(error, AnotherKeyError)
                verdicts.append(Verdict(collection_id, name, error.number, str(error), another_key))
        return verdicts

    return in_transaction(act, snapshot=True)


def export_heads(file: Path) -> int:
    """Writes the heads of all chains to a new file and returns their number.

    Store the file where the database's administrator cannot change it.

    Raises:
        StartupError: the file exists or cannot be written.
    """
    heads = in_transaction(audit_log.heads)
    documents = [
        {"collection_id": str(head.collection_id), "number": head.number, "mac": head.mac.hex()} for head in heads
    ]
    try:
        with file.open("x") as output:
            json.dump(documents, output, indent=1)
            output.write("\n")
    except OSError as error:
        raise StartupError(f"{file} cannot be written: {error.strerror}") from error
    return len(heads)


def _read(file: Path) -> list[Head]:
    """Reads exported heads, or a response of GET /audit/heads. Files of release 0.1 have `code` instead of `mac`."""
    try:
        documents = json.loads(file.read_text())
        documents = documents["heads"] if isinstance(documents, dict) else documents
        return [
            Head(uuid.UUID(item["collection_id"]), int(item["number"]), bytes.fromhex(_mac(item)), b"")
            for item in documents
        ]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise StartupError(f"{file} does not contain heads that `audit heads` has exported: {error}") from None


def _mac(item: dict[str, str]) -> str:
    return item["mac"] if "mac" in item else item["code"]
