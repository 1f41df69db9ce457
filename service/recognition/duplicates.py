"""The error for a new identity that looks like another one."""

from collections.abc import Sequence

from service.errors import DuplicatePerson
from service.gallery.search.results import Candidate
from service.recognition.enrolment_records import EnrolmentRequest


def duplicate_person(request: EnrolmentRequest, duplicates: Sequence[Candidate]) -> DuplicatePerson:
    """Returns the error. It names the other identities only if the caller may identify people."""
    named = duplicates if request.may_identify else []
    names = ", ".join(repr(candidate.external_id) for candidate in named[:3]) or "an enrolled identity"
    return DuplicatePerson(
        f"{request.external_id!r} looks like {names}, and the collection rejects duplicates. Register the picture "
        "under the external_id of that identity, or set the collection's `duplicates` to `warn`",
        duplicates=[
            {
                "identity_id": str(candidate.id),
                "external_id": candidate.external_id,
                "label": candidate.label,
                "score": round(candidate.score, 6),
            }
            for candidate in named
        ],
    )
