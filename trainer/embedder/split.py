"""Which people train, validate and calibrate. A person is in exactly one part, whatever else is in the data set."""

import hashlib
from enum import StrEnum

from trainer.embedder.config import SplitConfig


class Part(StrEnum):
    TRAIN = "train"
    VALIDATION = "validation"
    CALIBRATION = "calibration"
    LEFT_OUT = "left out"


def part_of(identity: str, split: SplitConfig) -> Part:
    """The part of one named person. It depends on the name alone, so that new data moves nobody.

    People without names are told apart by nothing and can only train.
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
