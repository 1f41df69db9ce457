"""Quality measurements of a face."""

from dataclasses import dataclass

MIN_VISIBLE = 0.85
"""Share of a face inside the picture below which the face counts as cut off. A tight portrait of a whole face has 0.9
and more."""


@dataclass(frozen=True)
class Quality:
    """Quality measurements of one face.

    Attributes:
        face_px: shorter side of the face's box in the picture, in pixels.
        sharpness: variance of the Laplacian of the aligned crop's luma (Pech-Pacheco et al., ICPR 2000).
        asymmetry: 0 for a frontal face; approaches 1 for a profile, in which the nose is close to one eye.
        brightness: mean luma of the inner face, 0 to 255.
        visible: share of the aligned face that lies inside the picture, 0 to 1; less than 1 if the edge of the picture
            cuts the face off.
        score: share of the model's reference faces with a shorter embedding, 0 to 1; shorter embeddings are recognised
            less reliably. None if the model's bundle has no reference.
    """

    face_px: float
    sharpness: float
    asymmetry: float
    brightness: float
    visible: float
    score: float | None

    @property
    def is_cut_off(self) -> bool:
        return self.visible < MIN_VISIBLE
