"""Estimates the pose of a head from five landmarks, and removes position, size and roll from the landmarks."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

HEAD = np.array([[-31.5, 0, 0], [31.5, 0, 0], [0, 36, -26], [-26, 72.5, -4], [26, 72.5, -4]])
"""(5, 3) eyes, nose tip and mouth corners of an average head in millimetres: x to the right of the picture, y down, z
away from the camera.

x and y are those of the 112-pixel template for a distance of 63 mm between the eyes; z is rounded anthropometry.
"""
EYES_MM = 63.0


@dataclass(frozen=True)
class Pose:
    """Angles in degrees, and landmarks without position, size and roll.

    Attributes:
        yaw: positive if the face is turned to the right of the picture.
        pitch: positive if the face is turned down.
        roll: positive if the head is inclined clockwise.
        points: (5, 2) upright landmarks around their mean, in distances between the eyes of the frontal head.
    """

    yaw: float
    pitch: float
    roll: float
    points: Floats


def pose_of(landmarks: npt.NDArray[np.floating]) -> Pose:
    """Fits the average head to (5, 2) or (5, 3) landmarks in pixels under scaled orthographic projection.

    DeMenthon and Davis, "Model-based object pose in 25 lines of code", IJCV 1995; this is the first step (POS).
    """
    points = np.asarray(landmarks[:, :2], np.float64)
    centred, head = points - points.mean(axis=0), HEAD - HEAD.mean(axis=0)
    across, down = np.linalg.lstsq(head, centred, rcond=None)[0].T
    scale = (np.linalg.norm(across) + np.linalg.norm(down)) / 2
    # The rotation that is nearest to the two fitted rows.
    u, _, vt = np.linalg.svd(np.stack([across, down]) / scale, full_matrices=False)
    rows = u @ vt
    away = np.cross(rows[0], rows[1])
    # The order of rotations is yaw, pitch, roll.
    yaw = np.degrees(np.arctan2(away[0], away[2]))
    pitch = np.degrees(np.arcsin(np.clip(away[1], -1, 1)))
    roll = np.degrees(np.arctan2(-rows[0, 1], rows[1, 1]))
    cos, sin = np.cos(np.radians(roll)), np.sin(np.radians(roll))
    upright = centred @ np.array([[cos, -sin], [sin, cos]])
    return Pose(float(yaw), float(pitch), float(roll), upright / (scale * EYES_MM))


def frontal_shift(pose: Pose) -> Floats:
    """Returns (5, 2) displacements of the average head's landmarks from this pose to the front, in eye distances."""
    head = (HEAD - HEAD.mean(axis=0)) / EYES_MM
    yaw, pitch = np.radians([pose.yaw, pose.pitch])
    x = np.cos(yaw) * head[:, 0] - np.sin(yaw) * head[:, 2]
    depth = np.sin(yaw) * head[:, 0] + np.cos(yaw) * head[:, 2]
    y = np.cos(pitch) * head[:, 1] - np.sin(pitch) * depth
    return np.stack([head[:, 0] - x, head[:, 1] - y], axis=1)
