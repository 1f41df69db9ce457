"""A detector's landmarks, averaged over looks at the same picture that should make no difference."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from service.inference.engine import Detection, FaceFinder
from service.vision.image import Pixels
from trainer.detector.evaluation import match

Floats = npt.NDArray[np.float32]
MIRRORED = [1, 0, 2, 4, 3]


@dataclass(frozen=True)
class Look:
    """A picture mirrored or not, scaled, and moved by some pixels of its edge repeated."""

    mirrored: bool = False
    scale: float = 1.0
    right: int = 0
    down: int = 0

    def at(self, picture: Pixels) -> Pixels:
        turned = picture[:, ::-1] if self.mirrored else picture
        scaled = cv2.resize(np.ascontiguousarray(turned), None, fx=self.scale, fy=self.scale)
        return np.asarray(cv2.copyMakeBorder(scaled, self.down, 0, self.right, 0, cv2.BORDER_REPLICATE), np.uint8)

    def undo(self, face: Detection, width: int) -> Detection:
        """The face in the picture of this width that the look was made of."""
        corners = self._back(np.array(face.box, np.float32).reshape(2, 2), width)
        if self.mirrored:
            corners[:, 0] = corners[::-1, 0]
        landmarks = face.landmarks
        if landmarks is not None:
            order = MIRRORED if self.mirrored else slice(None)
            landmarks = np.concatenate([self._back(landmarks[:, :2], width), landmarks[:, 2:]], axis=1)[order]
        return Detection(tuple(map(float, corners.ravel())), face.score, landmarks)  # type: ignore[arg-type]

    def _back(self, points: Floats, width: int) -> Floats:
        back = (points - np.array([self.right, self.down], np.float32)) / np.float32(self.scale)
        if self.mirrored:
            back[:, 0] = width - back[:, 0]
        return back


OTHER_LOOKS = (
    Look(scale=0.93, right=3, down=5),
    Look(scale=1.07, right=6, down=1),
    Look(right=5, down=3),
    Look(mirrored=True),
    Look(mirrored=True, scale=0.93, right=2, down=6),
    Look(mirrored=True, scale=1.07, right=4, down=2),
)


class Steadied:
    """Finds what a detector finds, with the median of the landmarks that it sees in several looks at the picture.

    YuNet's landmarks move by a tenth of the distance between the eyes when a picture is moved by some pixels. What is
    learned from them, and what is compared with them, should not have that noise.

    Args:
        first: whether the landmarks of the picture as it is count; without them the rest is a second opinion.
    """

    def __init__(self, finder: FaceFinder, looks: Sequence[Look] = OTHER_LOOKS, first: bool = True) -> None:
        self._finder, self._looks, self._first = finder, looks, first

    def detect(self, pictures: Sequence[Pixels]) -> list[list[Detection]]:
        return [self._one(picture) for picture in pictures]

    def _one(self, picture: Pixels) -> list[Detection]:
        faces = self._finder.detect([picture])[0]
        seen = [[face.landmarks] if self._first else [] for face in faces]
        boxes = np.array([face.box for face in faces], np.float32).reshape(-1, 4)
        for look in self._looks if faces else ():
            found = [look.undo(face, picture.shape[1]) for face in self._finder.detect([look.at(picture)])[0]]
            for face, index in match(found, boxes):
                if index is not None:
                    seen[index].append(face.landmarks)
        return [replace(face, landmarks=_median(landmarks)) for face, landmarks in zip(faces, seen, strict=True)]


def _median(seen: Sequence[Floats | None]) -> Floats | None:
    known = [landmarks for landmarks in seen if landmarks is not None]
    return np.median(known, axis=0).astype(np.float32) if known else None
