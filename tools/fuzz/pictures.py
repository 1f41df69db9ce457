"""Mutated pictures for the decoder."""

import random

import numpy as np

from service.errors import RegistryError
from service.vision.image import MIN_SIDE, ImageLimits, decode
from tools.fuzz.mutations import mutate
from tools.fuzz.originals import choose

LIMITS = ImageLimits()
MAX_EXCESS = 4
"""Maximum ratio of decoded to declared pixels. libheif bounds the size of the coded picture by this factor, and a HEIC
file may declare how much of it is shown."""


def make(seed: int, number: int) -> bytes:
    """Returns the mutated picture with this number. The same seed and number give the same picture."""
    rng = random.Random(f"picture {seed} {number}")  # noqa: S311  repeatable, not secret
    return mutate(rng, *choose(rng))


def check(data: bytes) -> str:
    """Decodes a picture. Returns "decoded" or the code of the refusal.

    Raises:
        AssertionError: the pixels violate the contract of `decode`.
        Exception: any other exception than RegistryError is a fault of the decoder.
    """
    try:
        pixels = decode(data, LIMITS)
    except RegistryError as error:
        return error.code
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert min(pixels.shape[:2]) >= MIN_SIDE
    assert pixels.shape[0] * pixels.shape[1] <= MAX_EXCESS * LIMITS.max_pixels
    return "decoded"
