"""Aligns the face of a photo."""

from dataclasses import asdict, dataclass
from typing import cast

import cv2
import numpy as np
import numpy.typing as npt

from service.inference.engine import Box, Detection, FaceChoice, FaceFinder
from service.inference.selection import select
from service.vision.alignment import BOX_MARGIN, TEMPLATE_112, similarity_transform, trust
from service.vision.filtering import apply
from service.vision.filters import Filters
from service.vision.image import ImageLimits, Pixels, decode
from trainer.choices import CropKind
from trainer.embedder.aligned_crops import CENTRE_SIZE, CROP_SIZE

NO_FILTERS = Filters()
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Recipe:
    """Describes how a photo becomes an aligned crop.

    Attributes:
        padding: For `box` crops: padding on each side as a fraction of the longer side of the box.
        filters: Applied to the crop. A model that the service runs has them in its own configuration instead.
    """

    choice: FaceChoice = FaceChoice.STRONGEST
    crop: CropKind = CropKind.LANDMARKS
    padding: float = BOX_MARGIN
    filters: Filters = NO_FILTERS

    def describe(self) -> dict[str, object]:
        """Returns every setting that changes the crops, as JSON values."""
        return {**asdict(self), "filters": self.filters.model_dump(mode="json")}


def align_face(data: bytes, finder: FaceFinder, recipe: Recipe, box: Box | None = None) -> Pixels:
    """Returns the chosen face of an encoded photo as a (160, 160, 3) aligned crop.

    Args:
        box: Position of a face. The detected face at this position is taken; if there is none, the box is cut out.

    Raises:
        RegistryError: The photo cannot be decoded.
        ValueError: The photo shows no face, or several and the recipe says `only`, or the detector returns no
            landmarks although the recipe needs them.
    """
    pixels = decode(data, ImageLimits())
    detections = finder.detect([pixels])[0]
    height, width = pixels.shape[:2]
    chosen = select(detections, recipe.choice if box is None else FaceChoice.BOX, box, (width, height))
    if not chosen and box is None:
        raise ValueError(f"{len(detections)} faces" if detections else "no face")
    transform = _transform(detections[chosen[0]], recipe) if chosen else _box_transform(cast("Box", box), recipe)
    crop = cv2.warpAffine(pixels, transform, (CROP_SIZE, CROP_SIZE), borderMode=cv2.BORDER_REPLICATE)
    return apply(np.asarray(crop, np.uint8), recipe.filters)


def _transform(face: Detection, recipe: Recipe) -> Floats:
    """Returns the (2, 3) transform from the photo to the crop."""
    if recipe.crop is CropKind.BOX:
        return _box_transform(face.box, recipe)
    if face.landmarks is None:
        raise ValueError("the detector returns no landmarks; choose another --finder, or --crop box")
    target = TEMPLATE_112 + np.float32((CROP_SIZE - CENTRE_SIZE) / 2)
    return similarity_transform(face.landmarks[:, :2], target, trust(face.landmarks[:, 2]))  # as the service aligns


def _box_transform(box: Box, recipe: Recipe) -> Floats:
    x0, y0, x1, y1 = box
    scale = CENTRE_SIZE / (max(x1 - x0, y1 - y0) * (1 + 2 * recipe.padding))
    shift = [CROP_SIZE / 2 - scale * (x0 + x1) / 2, CROP_SIZE / 2 - scale * (y0 + y1) / 2]
    return np.array([[scale, 0, shift[0]], [0, scale, shift[1]]], np.float32)
