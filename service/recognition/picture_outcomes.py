"""The outcome of each picture of an enrolment, before anything is stored."""

from collections.abc import Sequence

from service.errors import FaceRejected, NoImageAccepted, RegistryError
from service.inference.engine import Observation, Sample
from service.recognition import samples
from service.recognition.enrolment_records import ImageOutcome
from service.recognition.policies import QualityLimits


def outcome(
    limits: QualityLimits | None, sample: Sample, result: Observation | RegistryError, pointer: str, force: bool
) -> ImageOutcome:
    try:
        face = samples.subject_face(sample, result, pointer)
    except RegistryError as error:
        return ImageOutcome("rejected", error=error.with_pointer(pointer))
    refusal = None if limits is None else _no_picture() if face.supplied else samples.refusal(face, limits)
    if refusal is None or (force and face.supplied):
        return ImageOutcome("accepted", face)
    if force:
        return ImageOutcome("accepted", face, overridden=tuple(refusal.extensions["reasons"]))
    return ImageOutcome("rejected", error=refusal.with_pointer(pointer))


def _no_picture() -> FaceRejected:
    return FaceRejected(
        "the collection checks the quality of faces, and an embedding has no picture; send `force`, or set the "
        "collection's `quality` to `off`",
        reasons=["unseen"],
    )


def require_any(outcomes: Sequence[ImageOutcome]) -> None:
    """Raises the error of a single picture, or NoImageAccepted with the errors of several."""
    errors = [outcome.error for outcome in outcomes if outcome.error is not None]
    if len(errors) < len(outcomes):
        return
    if len(errors) == 1:
        raise errors[0]
    raise NoImageAccepted(
        f"none of the {len(errors)} pictures was accepted; `images` contains the error of each picture",
        images=[{"code": error.code, "detail": error.detail, **error.extensions} for error in errors],
    )
