"""What is known of a face sample beside its embedding."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Quality:
    """What was measured on one face.

    Attributes:
        face_px: shorter side of the face's box in the picture, in pixels.
        sharpness: variance of the Laplacian of the aligned crop's luma (Pech-Pacheco et al. 2000).
        asymmetry: 0 for a face seen from the front, towards 1 as the nose comes near one eye (profile).
        brightness: mean luma of the inner face, 0 to 255.
        score: how well the embedder recognises such a face: the share of its reference faces that it recognises less
            well, 0 to 1. None where the model's bundle has no such reference.
    """

    face_px: float
    sharpness: float
    asymmetry: float
    brightness: float
    score: float | None
