"""Compares what is stored about identities with what the service has acknowledged."""

from dataclasses import dataclass, field

import numpy as np

from service.gallery.index.centroids import binary_code, centroid_of
from tools.chaos.ledger import Fate, Ledger, Person
from tools.chaos.stored import PERSONAL, Stored

MAX_COSINE_DISTANCE = 1e-5


@dataclass
class Check:
    """The result of one check.

    Attributes:
        count: number of things that were compared.
    """

    name: str
    count: int = 0
    violations: list[str] = field(default_factory=list)

    def expect(self, condition: bool, violation: str) -> None:
        self.count += 1
        if not condition:
            self.violations.append(violation)


def check_registrations(ledger: Ledger, stored: Stored) -> Check:
    """Checks that each identity has exactly the acknowledged templates, and at most the unknown ones besides."""
    check = Check("acknowledged registrations present, none stored twice")
    for person in ledger.people:
        identity_id = stored.ids.get((person.collection, person.external_id))
        text = f"{person.collection}/{person.external_id} ({person.fate})"
        if person.fate is Fate.PRESENT:
            check.expect(
                identity_id == person.identity_id, f"{text} has the id {identity_id}, not {person.identity_id}"
            )
        elif person.fate is Fate.UNKNOWN_REGISTRATION and person.unknown == 0:
            check.expect(identity_id is None, f"{text} exists although no request created it")
        if identity_id is not None and person.fate not in {Fate.ERASED, Fate.MERGED}:
            _expect_templates(check, person, identity_id, stored)
    return check


def check_partial(stored: Stored) -> Check:
    """Checks that each identity has a template and a centroid of its collection's active model."""
    check = Check("no identity stored partially")
    for (name, external_id), identity_id in stored.ids.items():
        active = stored.models[name][0]
        models = {template.model_id for template in stored.templates.get(identity_id, [])}
        text = f"{name}/{external_id} has no"
        check.expect(active in models, f"{text} template of {active}; it has those of {sorted(models)}")
        check.expect((identity_id, active) in stored.centroids, f"{text} centroid of {active}")
    return check


def check_erasures(ledger: Ledger, stored: Stored) -> Check:
    """Checks that no table has a row of an erased identity, and that the audit trail has its erasure."""
    check = Check("acknowledged erasures complete")
    audited = {str(identity_id) for identity_id, action in stored.audit if action == "erase"}
    for identity_id in ledger.erased_ids:
        _expect_gone(check, identity_id, stored)
        check.expect(identity_id in audited, f"the erasure of {identity_id} has no entry in the audit trail")
    for person in ledger.people:
        if person.fate is Fate.ERASED:
            exists = (person.collection, person.external_id) in stored.ids
            check.expect(not exists, f"{person.collection}/{person.external_id} exists after its erasure")
    return check


def check_merges(ledger: Ledger, stored: Stored) -> Check:
    """Checks that nothing of merged identities remains. `check_registrations` compares the templates of the targets."""
    check = Check("acknowledged merges complete")
    for person in ledger.people:
        if person.fate is Fate.MERGED and person.identity_id is not None:
            _expect_gone(check, person.identity_id, stored)
    return check


def check_centroids(stored: Stored) -> Check:
    """Checks each centroid with its binary code against the templates of its identity and model."""
    check = Check("centroids equal to what their templates give")
    pairs = {(identity_id, item.model_id) for identity_id, items in stored.templates.items() for item in items}
    for key in pairs | stored.centroids.keys():
        identity_id, model_id = key
        embeddings = [item.embedding for item in stored.templates.get(identity_id, []) if item.model_id == model_id]
        centroid = stored.centroids.get(key)
        if centroid is None or not embeddings:
            check.expect(False, f"{identity_id} has {len(embeddings)} templates of {model_id}, centroid: {centroid}")
            continue
        distance = 1 - float(centroid_of(np.array(embeddings, np.float32)) @ centroid.embedding)
        same_count = centroid.template_count == len(embeddings)
        check.expect(
            distance < MAX_COSINE_DISTANCE and same_count,
            f"the centroid of {identity_id} under {model_id} has the cosine distance {distance:.2g} and counts "
            f"{centroid.template_count} of {len(embeddings)} templates",
        )
        check.expect(
            centroid.binary_code == binary_code(centroid.embedding), f"the binary code of {identity_id} is wrong"
        )
    return check


def expected_templates(person: Person, stored: Stored) -> tuple[set[str], int]:
    """Returns the ids of the templates that an identity must have, and how many more it may have."""
    templates, unknown = set(person.templates), person.unknown
    for source in person.sources:
        merged = source.fate is Fate.MERGED or (source.collection, source.external_id) not in stored.ids
        if merged:
            more, more_unknown = expected_templates(source, stored)
            templates |= more
            unknown += more_unknown
    return templates, unknown


def active_templates(name: str, identity_id: str, stored: Stored) -> list[str]:
    """Returns the ids of the templates of the collection's active model."""
    active = stored.models[name][0]
    return [item.template_id for item in stored.templates.get(identity_id, []) if item.model_id == active]


def _expect_templates(check: Check, person: Person, identity_id: str, stored: Stored) -> None:
    templates = active_templates(person.collection, identity_id, stored)
    expected, unknown = expected_templates(person, stored)
    text = f"{person.collection}/{person.external_id} ({person.fate}) has {len(templates)} templates"
    minimum = 1 if person.external_id in stored.lost_in_migration else len(expected)
    in_range = minimum <= len(templates) <= len(expected) + unknown
    check.expect(in_range, f"{text}; {len(expected)} to {len(expected) + unknown} are expected")
    if person.base is not None:
        missing = expected - set(templates)
        check.expect(not missing, f"{text}; {len(missing)} acknowledged ones are missing")


def _expect_gone(check: Check, identity_id: str, stored: Stored) -> None:
    check.expect(identity_id not in stored.identities, f"the identity {identity_id} exists after its end")
    for table in PERSONAL:
        check.expect(identity_id not in stored.personal[table], f"{table} has rows of the ended identity {identity_id}")
