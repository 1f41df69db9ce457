"""Responses about groups of faces."""

import uuid
from typing import Any

from identity_registry.responses.base import Document
from identity_registry.responses.identities import Identity


class GroupMember(Document):
    """An identity of a group.

    Attributes:
        position: 1 for the identity that is most similar to the group.
        similarity: cosine to the mean of the group, when it was formed.
        named: False: the service has created the identity for a face of an unknown person.
        metadata: `picture` is the file from which an unnamed identity comes.
        box: face in its picture: x_min, y_min, x_max, y_max in pixels.
    """

    position: int
    similarity: float
    identity_id: uuid.UUID
    external_id: str
    label: str
    named: bool
    metadata: dict[str, Any]
    box: list[float] | None = None


class Group(Document):
    """Identities that may show the same person.

    Attributes:
        number: 1 for the largest group.
        size: number of identities that are still in the group.
        names: external ids of up to 10 named identities of the group.
    """

    number: int
    size: int
    names: list[str]
    representative: GroupMember


class EnrolledGroup(Identity):
    """The identity that a group was merged into. `identities_remaining`: unnamed identities that are left."""

    created: bool
    identities_merged: int
    identities_remaining: int
