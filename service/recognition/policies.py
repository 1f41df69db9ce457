"""Rules of a collection for new identities and their pictures."""

from dataclasses import dataclass, replace
from enum import StrEnum

STRICT_QUALITY = 0.25


class QualityMode(StrEnum):
    """The quality that a collection requires of enrolled faces."""

    OFF = "off"
    """Every detected face is enrolled."""
    STANDARD = "standard"
    """The limits of the service's settings."""
    STRICT = "strict"
    """Portraits: twice the size and sharpness, half the asymmetry, and a quality score of at least 0.25."""


class DuplicatePolicy(StrEnum):
    """The reaction to a new identity that looks like another identity of the collection."""

    ALLOW = "allow"
    """No search for duplicates."""
    WARN = "warn"
    """The identity is enrolled, and the response lists the duplicate candidates."""
    REJECT = "reject"
    """The identity is not enrolled, and the problem lists the duplicate candidates."""


class AdditionPolicy(StrEnum):
    """The pictures that a key without the scope `manage` may add to an existing identity."""

    MATCH = "match"
    """Those that match the identity at the collection's false match rate, or at the service's without one."""
    ANY = "any"
    """All pictures."""


@dataclass(frozen=True, slots=True)
class QualityLimits:
    """The limits of each measure of `service.vision.sample.Quality`."""

    min_face_px: float
    min_sharpness: float
    max_asymmetry: float
    min_brightness: float
    max_brightness: float
    min_visible: float
    min_score: float

    def for_mode(self, mode: QualityMode) -> "QualityLimits | None":
        """Returns the limits of a collection; None: it has none."""
        if mode is QualityMode.STANDARD:
            return self
        if mode is QualityMode.OFF:
            return None
        return replace(
            self,
            min_face_px=2 * self.min_face_px,
            min_sharpness=2 * self.min_sharpness,
            max_asymmetry=self.max_asymmetry / 2,
            min_score=max(self.min_score, STRICT_QUALITY),
        )
