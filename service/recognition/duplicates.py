"""The decision whether a new identity is a duplicate of another one, and the error that refuses it."""

from collections.abc import Callable, Sequence

from service.errors import DuplicatePerson, RateNotCalibrated
from service.gallery.people.collections import Collection
from service.gallery.search.results import Candidate
from service.gallery.search.search import GallerySize
from service.recognition.candidates import decide
from service.recognition.decision import Decision, DecisionResolver
from service.recognition.enrolment_records import EnrolmentRequest
from service.recognition.operating_point import Comparisons, OperatingPoint
from service.recognition.policy_checks import require_duplicates_decidable


def predicate(
    resolver: DecisionResolver, collection: Collection, size: GallerySize, pictures: int
) -> Callable[[Candidate], bool]:
    """Returns the function that returns True for duplicates. Raises RateNotCalibrated, ModelNotLoaded."""
    decision = _decision(resolver, collection, size, pictures)
    return lambda candidate: decide(decision, candidate).match


def _decision(resolver: DecisionResolver, collection: Collection, size: GallerySize, pictures: int) -> Decision:
    """Returns the decision: at the FPIR `duplicate_fpir` if it is calibrated, else at the lowest measured FMR.

    Each of the new identity's pictures is compared with the whole gallery, and one match is enough.

    Raises:
        RateNotCalibrated, ModelNotLoaded
    """
    lowest, _ = require_duplicates_decidable(resolver, collection.model_id)
    policy = resolver.policy_of(collection.model_id)
    comparisons = Comparisons(size.people, size.templates, pictures)
    try:
        return policy.decide(OperatingPoint("fpir", resolver.duplicate_fpir), comparisons)
    except RateNotCalibrated:
        return policy.decide(OperatingPoint("threshold", policy.threshold_for("fmr", lowest)), comparisons)


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
