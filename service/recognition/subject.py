"""The one face of a picture that an operation is about, or why there is none."""

from typing import Any

from service.errors import NoFace, RegistryError, SeveralFaces
from service.inference.engine import Detection, Face, FaceChoice, Picture, Observation


def subject_face(image: Picture, result: Observation | RegistryError, pointer: str) -> Face:
    """The chosen face.

    Raises:
        NoFace, SeveralFaces: with the boxes of what was seen.
        RegistryError: the picture's own error. Each says with `pointer` which picture it is about.
    """
    observation = require_observation(result, pointer)
    if observation.faces:
        return observation.faces[0]
    boxes = [describe(detection) for detection in observation.detections]
    if image.choice is FaceChoice.ONLY and len(observation.detections) > 1:
        raise SeveralFaces(
            f"the picture shows {len(boxes)} faces; name one with face=box and its box, or take "
            "face=strongest or face=largest",
            pointer=pointer,
            faces=boxes,
        )
    if image.choice is FaceChoice.BOX and boxes:
        raise NoFace("no face that was found overlaps the given box", pointer=pointer, faces=boxes)
    raise NoFace(
        "no face was found in the picture (those that lie on their side are not: turn it upright)",
        pointer=pointer,
        faces=boxes,
    )


def require_observation(result: Observation | RegistryError, pointer: str) -> Observation:
    """The observation, or the picture's error, told which picture it is about."""
    if isinstance(result, RegistryError):
        raise result.at(pointer)
    return result


def describe(detection: Detection) -> dict[str, Any]:
    """A detection as it stands in a problem document."""
    return {"box": [round(value, 1) for value in detection.box], "detection_score": round(detection.score, 4)}
