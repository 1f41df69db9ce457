"""Assigns each identity to training, validation or calibration."""

import hashlib
from enum import StrEnum

from trainer.embedder.config import SplitConfig


class Part(StrEnum):
    TRAIN = "train"
    VALIDATION = "validation"
    CALIBRATION = "calibration"
    LEFT_OUT = "left out"


def part_of(identity: str, split: SplitConfig) -> Part:
    """Returns the part of an identity.

    The part depends on a hash of the name alone, so new data moves no identity to another part.
    Pictures without a label always belong to the training part.
    """
    if not identity:
        return Part.TRAIN
    if identity in split.wrong_labels:
        return Part.LEFT_OUT
    position = int.from_bytes(hashlib.sha256(identity.encode()).digest()[:8], "big") / 2**64
    if position < split.validation:
        return Part.VALIDATION
    if position < split.validation + split.calibration:
        return Part.CALIBRATION
    return Part.TRAIN
