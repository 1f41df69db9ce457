"""Decides about a chain of the audit trail: intact, altered, or made with another key.

Every MAC of a chain that was made with another key is wrong, also that of the head. An altered entry leaves other
entries with a right MAC. A service that starts with a new key appends an entry `HEAD_TAMPERED` first; so the key may
change at such an entry, and at no other. A part of the chain between two changes of the key is a `_Part`.

Without the key, a chain whose MACs were all replaced cannot be told from a chain of another key. Only the comparison
with exported heads, and the key's id in the head, give an indication.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from service.gallery.access.audit_entries import Action, AnotherKeyError, ChainBrokenError, Entry, Head

FIRST_MAC = bytes(32)
"""The MAC before the first entry."""


@dataclass
class _Part:
    """Entries with one key. `key_id`: id of the key, if it is stored; `right`, `wrong`: numbers of MACs."""

    first: int
    last: int = 0
    right: int = 0
    wrong: int = 0
    key_id: bytes | None = None


class ChainVerification:
    """Collects the entries of a chain in their order, then the head.

    Args:
        key_id: id of the key that the MACs are compared with.
        exported: heads of the chain that were exported earlier.

    Attributes:
        number: number of the last entry.
        mac: MAC of the last entry.
    """

    def __init__(self, key_id: bytes | None, exported: Sequence[Head]) -> None:
        self.number, self.mac = 0, FIRST_MAC
        self._key_id = key_id
        self._expected = {head.number: head.mac for head in exported}
        self._parts = [_Part(first=1)]
        self._problem: ChainBrokenError | None = None
        self._incomplete = False

    def add(self, entry: Entry, right_mac: bool) -> None:
        """Adds an entry. `right_mac`: its MAC is that of the entry, of `mac` and of the key."""
        if entry.number != self.number + 1:
            self._report(f"entry {self.number + 1} is missing", self.number + 1, incomplete=True)
        if not right_mac:
            self._report(f"entry {entry.number} or an earlier entry was altered", entry.number)
        if entry.action == Action.HEAD_TAMPERED:
            self._report(f"the chain was altered before entry {entry.number}", entry.number)
            self._parts[-1].key_id = _former_key_id(entry)
            self._parts.append(_Part(first=entry.number))
        self._count(right_mac)
        self._parts[-1].last = self.number = entry.number
        self.mac = entry.mac
        if self._expected.pop(entry.number, entry.mac) != entry.mac:
            self._report(f"entry {entry.number} differs from the exported head", entry.number, incomplete=True)

    def finish(self, head: Head, right_mac: bool) -> None:
        """Compares the end of the chain with the head. `right_mac`: the head's MAC is that of the head and the key.

        Raises:
            AnotherKeyError: the chain, or a part of it, was made with another key and is complete.
            ChainBrokenError: an entry was altered, removed or inserted, or the chain's end is missing.
        """
        number = self.number
        if (head.number, head.mac) != (number, self.mac) or self._expected:
            longest = max([head.number, *self._expected])
            detail = f"had {longest} entries" if longest > number else "its head does not match"
            self._report(f"the chain ends at entry {number} and {detail}", number, incomplete=True)
        if not right_mac:
            self._report(f"the chain was cut off at entry {number}: the head's MAC is wrong", number)
        self._count(right_mac)
        self._parts[-1].key_id = head.mac_key_id
        if self._problem is not None:
            raise self._another_key() or self._problem

    def _count(self, right_mac: bool) -> None:
        part = self._parts[-1]
        part.right, part.wrong = part.right + right_mac, part.wrong + (not right_mac)

    def _report(self, problem: str, number: int, incomplete: bool = False) -> None:
        """Keeps the first problem. `incomplete`: another key cannot be its cause."""
        self._problem = self._problem or ChainBrokenError(problem, number=number)
        self._incomplete = self._incomplete or incomplete

    def _another_key(self) -> AnotherKeyError | None:
        """Returns the error about parts that were made with another key; None if that does not explain all problems."""
        parts = [part for part in self._parts if part.right or part.wrong]
        others = [part for part in parts if part.wrong]
        if self._incomplete or not others or any(map(self._was_altered, others)):
            return None
        affected = ", ".join(map(_describe, others))
        return AnotherKeyError(f"made with another key: {affected}", number=others[0].first)

    def _was_altered(self, part: _Part) -> bool:
        """Returns True if another key is not the cause of the wrong MACs. A head without entries is never stored."""
        return part.right > 0 or part.key_id == self._key_id or part.last < part.first


def _former_key_id(entry: Entry) -> bytes | None:
    """Returns the id of the key before an entry `HEAD_TAMPERED`, if the entry names it."""
    value = entry.details.get("mac_key_id")
    return bytes.fromhex(value) if isinstance(value, str) and _is_hexadecimal(value) else None


def _is_hexadecimal(value: str) -> bool:
    return len(value) % 2 == 0 and set(value) <= set("0123456789abcdef")


def _describe(part: _Part) -> str:
    entries = f"entry {part.first}" if part.first == part.last else f"entries {part.first} to {part.last}"
    return entries if part.key_id is None else f"{entries} (key id {part.key_id.hex()})"
