"""Decides which faces of a request are enrolled, by their quality."""

from collections.abc import Sequence

from service.errors import FaceRejected, NoImageAccepted, RegistryError
from service.inference.engine import Face, Observation, Sample
from service.recognition.enrolment_records import ImageOutcome
from service.recognition.policies import QualityLimits
from service.recognition.samples import subject_face


def refusal(face: Face, limits: QualityLimits) -> FaceRejected | None:
    """Returns the error for a face of insufficient quality, with all measures and limits; None: it is sufficient."""
    quality = face.quality
    checks = {
        "too_small": quality.face_px < limits.min_face_px,
        "too_blurred": quality.sharpness < limits.min_sharpness,
        "extreme_pose": quality.asymmetry > limits.max_asymmetry,
        "too_dark": quality.brightness < limits.min_brightness,
        "too_bright": quality.brightness > limits.max_brightness,
        "cut_off": quality.visible < limits.min_visible,
        "hard_to_recognise": quality.score is not None and quality.score < limits.min_score,
    }
    reasons = [reason for reason, failed in checks.items() if failed]
    if not reasons:
        return None
    score = "unknown" if quality.score is None else f"{quality.score:.3f}"
    return FaceRejected(
        f"the face is {', '.join(reasons).replace('_', ' ')}: size {quality.face_px:.0f} px (minimum "
        f"{limits.min_face_px:g}), sharpness {quality.sharpness:.0f} (minimum {limits.min_sharpness:g}), asymmetry "
        f"{quality.asymmetry:.2f} (maximum {limits.max_asymmetry:g}), brightness {quality.brightness:.0f} (from "
        f"{limits.min_brightness:g} to {limits.max_brightness:g}), visible {quality.visible:.2f} (minimum "
        f"{limits.min_visible:g}), quality {score} (minimum {limits.min_score:g})",
        reasons=reasons,
    )


def outcome(
    limits: QualityLimits | None, sample: Sample, result: Observation | RegistryError, pointer: str, force: bool
) -> ImageOutcome:
    """Returns the outcome of a picture for enrolment."""
    try:
        face = subject_face(sample, result, pointer)
    except RegistryError as error:
        return ImageOutcome("rejected", error=error.with_pointer(pointer))
    return outcome_of_face(limits, face, pointer, force)


def outcome_of_face(limits: QualityLimits | None, face: Face, pointer: str, force: bool = False) -> ImageOutcome:
    """Returns the outcome of a face: it is accepted if its quality is sufficient, or with `force`."""
    refused = None if limits is None else _no_picture() if face.supplied else refusal(face, limits)
    if refused is None or (force and face.supplied):
        return ImageOutcome("accepted", face)
    if force:
        return ImageOutcome("accepted", face, overridden=tuple(refused.extensions["reasons"]))
    return ImageOutcome("rejected", error=refused.with_pointer(pointer))


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
