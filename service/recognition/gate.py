"""What a face must have to be enrolled."""

from dataclasses import dataclass, replace
from enum import StrEnum

from service.errors import FaceRejected
from service.inference.engine import Face
from service.vision.sample import Quality


class QualityMode(StrEnum):
    """How much a collection asks of the faces that it enrols."""

    OFF = "off"
    """Nothing: whatever the detector calls a face."""
    STANDARD = "standard"
    """What the service's settings ask."""
    STRICT = "strict"
    """Portraits: twice the size and sharpness, half the asymmetry, and none of the model's hardest quarter."""


STRICT_QUALITY = 0.25


@dataclass(frozen=True, slots=True)
class QualityGate:
    """The least, or most, of each measure; each has the reason code of its refusal."""

    min_face_px: float
    min_sharpness: float
    max_asymmetry: float
    min_brightness: float
    max_brightness: float
    min_score: float

    def strict(self) -> "QualityGate":
        return replace(
            self,
            min_face_px=2 * self.min_face_px,
            min_sharpness=2 * self.min_sharpness,
            max_asymmetry=self.max_asymmetry / 2,
            min_score=max(self.min_score, STRICT_QUALITY),
        )

    def reasons(self, quality: Quality) -> list[str]:
        """Why a face is refused; none: it is good enough."""
        refusals = {
            "too_small": quality.face_px < self.min_face_px,
            "too_blurred": quality.sharpness < self.min_sharpness,
            "extreme_pose": quality.asymmetry > self.max_asymmetry,
            "too_dark": quality.brightness < self.min_brightness,
            "too_bright": quality.brightness > self.max_brightness,
            "hard_to_recognise": quality.score is not None and quality.score < self.min_score,
        }
        return [reason for reason, refused in refusals.items() if refused]

    def refusal(self, face: Face) -> FaceRejected | None:
        """What to tell the caller about a face that is not good enough, with every measure and what is asked of it."""
        quality = face.quality
        reasons = self.reasons(quality)
        if not reasons:
            return None
        score = "unknown" if quality.score is None else f"{quality.score:.3f}"
        return FaceRejected(
            f"the face is {', '.join(reasons).replace('_', ' ')}: size {quality.face_px:.0f} px (least "
            f"{self.min_face_px:g}), sharpness {quality.sharpness:.0f} (least {self.min_sharpness:g}), asymmetry "
            f"{quality.asymmetry:.2f} (most {self.max_asymmetry:g}), brightness {quality.brightness:.0f} (from "
            f"{self.min_brightness:g} to {self.max_brightness:g}), quality {score} (least {self.min_score:g})",
            reasons=reasons,
        )


def gate_for(mode: QualityMode, standard: QualityGate) -> QualityGate | None:
    """The gate of a collection; None: it has none."""
    if mode is QualityMode.OFF:
        return None
    return standard.strict() if mode is QualityMode.STRICT else standard
