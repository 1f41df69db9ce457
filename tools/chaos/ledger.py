"""Records the effects that the service has acknowledged, and those whose outcome is unknown."""

import threading
from dataclasses import dataclass, field
from enum import StrEnum

from tools.chaos.material import Floats


class Fate(StrEnum):
    """The expected state of an identity. An UNKNOWN one may or may not have happened: the connection broke."""

    PRESENT = "present"
    ERASED = "erased"
    MERGED = "merged"
    UNKNOWN_REGISTRATION = "unknown registration"
    UNKNOWN_ERASURE = "unknown erasure"
    UNKNOWN_MERGE = "unknown merge"


@dataclass(eq=False)
class Person:
    """An identity that one client owns, or that all clients share.

    Attributes:
        base: (dim,) direction of its supplied embeddings; None: it is enrolled from pictures.
        templates: ids of acknowledged templates. Those of pictures change with the model and are only counted.
        unknown: number of requests that may have stored one more template.
        sources: identities that were merged, or may have been merged, into this one.
        settled: False after a request with an unknown outcome; no further request concerns the identity.
    """

    collection: str
    external_id: str
    base: Floats | None = None
    identity_id: str | None = None
    templates: set[str] = field(default_factory=set)
    unknown: int = 0
    sources: list["Person"] = field(default_factory=list)
    fate: Fate = Fate.UNKNOWN_REGISTRATION

    @property
    def settled(self) -> bool:
        sources = all(source.fate is Fate.MERGED for source in self.sources)
        return self.fate is Fate.PRESENT and self.unknown == 0 and sources


@dataclass(eq=False)
class JobRecord:
    """An acknowledged bulk enrolment.

    Attributes:
        pictures: number of pictures by external id.
        erased: external ids whose erasure is acknowledged.
        maybe_erased: external ids whose erasure has an unknown outcome.
    """

    collection: str
    job_id: str
    pictures: dict[str, int]
    erased: set[str] = field(default_factory=set)
    maybe_erased: set[str] = field(default_factory=set)


class Ledger:
    """The acknowledged effects of one phase, filled by several threads."""

    def __init__(self) -> None:
        self.people: list[Person] = []
        self.jobs: list[JobRecord] = []
        self.unknown_jobs = 0
        self.erased_ids: set[str] = set()
        self.migrations = 0
        self._violations: list[str] = []
        self._lock = threading.Lock()

    def add(self, person: Person) -> Person:
        with self._lock:
            self.people.append(person)
        return person

    def add_template(self, person: Person, template_id: str | None) -> None:
        """Records an acknowledged template; None: the outcome is unknown."""
        with self._lock:
            if template_id is None:
                person.unknown += 1
            else:
                person.templates.add(template_id)

    def erase(self, identity_id: str) -> None:
        with self._lock:
            self.erased_ids.add(identity_id)

    def violate(self, text: str) -> None:
        """Records a violation that a client or the killer has observed."""
        with self._lock:
            self._violations.append(text)

    @property
    def violations(self) -> list[str]:
        with self._lock:
            return list(self._violations)
