"""Which way a face looks, from five landmarks, and the landmarks with position, size and roll taken out of them."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

HEAD = np.array([[-31.5, 0, 0], [31.5, 0, 0], [0, 36, -26], [-26, 72.5, -4], [26, 72.5, -4]])
"""Eyes, nose tip and mouth corners of an average head in millimetres; x to the right of the picture, y down, z away.

Widths and heights are those of the 112-pixel template for an eye distance of 63 mm; depths are rounded anthropometry.
"""
EYES_MM = 63.0


@dataclass(frozen=True)
class Pose:
    """Degrees. `yaw`: to the right of the picture; `pitch`: down; `roll`: clockwise.

    Attributes:
        points: (5, 2) landmarks upright, around their mean, in eye distances of a head seen from the front.
    """

    yaw: float
    pitch: float
    roll: float
    points: Floats


def pose_of(landmarks: npt.NDArray[np.floating]) -> Pose:
    """The pose that brings the average head nearest to (5, 2) landmarks under scaled orthographic projection.

    DeMenthon and Davis, "Model-based object pose in 25 lines of code", IJCV 1995 (POS, its first step).
    """
    points = np.asarray(landmarks[:, :2], np.float64)
    centred, head = points - points.mean(axis=0), HEAD - HEAD.mean(axis=0)
    across, down = np.linalg.lstsq(head, centred, rcond=None)[0].T
    scale = (np.linalg.norm(across) + np.linalg.norm(down)) / 2
    # The nearest rotation to the two rows found.
    u, _, vt = np.linalg.svd(np.stack([across, down]) / scale, full_matrices=False)
    rows = u @ vt
    away = np.cross(rows[0], rows[1])
    # Of a turn to the side, then down, then around the line of sight.
    yaw = np.degrees(np.arctan2(away[0], away[2]))
    pitch = np.degrees(np.arcsin(np.clip(away[1], -1, 1)))
    roll = np.degrees(np.arctan2(-rows[0, 1], rows[1, 1]))
    cos, sin = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    upright = centred @ np.array([[cos, -sin], [sin, cos]])
    return Pose(float(yaw), float(pitch), float(roll), upright / (scale * EYES_MM))
