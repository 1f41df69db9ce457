"""Measures how difficult conditions change the errors of an embedder, and whether its quality score shows them.

Each picture of a held-out person is compared, altered, with the unaltered pictures. Profiles are not made: they are the
pictures whose landmarks have a yaw of at least 45 degrees.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from service.inference.calibration import Calibration
from service.inference.embedder import FaceEmbedder
from service.inference.engine import FaceFinder
from service.vision.alignment import TEMPLATE_112
from service.vision.image import Pixels
from trainer.embedder.aligned_crops import CENTRE, AlignedCrops
from trainer.embedder.embedding import embed_pictures
from trainer.finders import DetectorLandmarks
from trainer.progress import track
from trainer.shape.pose import pose_of

Floats = npt.NDArray[np.float32]
FMR = 1e-3
MIN_QUALITY = 0.05
"""The default of `recognition.min_quality`, below which the service enrols no face."""
PROFILE_DEGREES = 45.0
MAX_PICTURES = 1_500
BATCH = 32
LEFT_EYE, RIGHT_EYE, NOSE, LEFT_MOUTH, RIGHT_MOUTH = TEMPLATE_112 + CENTRE.start
"""Positions in an aligned crop of 160 pixels."""


@dataclass(frozen=True)
class Condition:
    """Errors when altered pictures are compared with unaltered ones, at the threshold for FMR 1e-3.

    Attributes:
        quality: Median quality score of the altered pictures.
        refused: Fraction of the altered pictures that are below the service's limit of quality.
        fnmr_of_accepted: FNMR of the others.
    """

    name: str
    pictures: int
    fnmr: float
    fmr: float
    quality: float
    refused: float
    fnmr_of_accepted: float


def measure_conditions(
    embedder: FaceEmbedder, crops: AlignedCrops, rows: Sequence[int], detector: FaceFinder, calibration: Calibration
) -> list[Condition]:
    """Measures each condition on pictures of people who did not train the model.

    Empty: the bundle has no reference lengths, or the calibration does not cover FMR 1e-3.

    Args:
        rows: Pictures to use; at most 1,500 of them are.
    """
    if not embedder.manifest.reference_lengths or calibration.points[-1].fmr > FMR:
        return []
    chosen = np.sort(np.random.default_rng(0).permutation(np.asarray(rows))[:MAX_PICTURES])
    names = np.array([crops.identities[row] for row in chosen])
    pictures = crops.pictures[chosen]
    threshold = calibration.threshold_for(FMR)
    clean, lengths = _embed(embedder, pictures, detector, "unaltered")
    yaw = _yaws(pictures, detector)
    measured = [_condition("unaltered", embedder, clean, clean, lengths, names, threshold)]
    profile = np.abs(yaw) >= PROFILE_DEGREES
    for name, alter in ALTERATIONS.items():
        altered = np.stack([alter(picture) for picture in pictures])
        vectors, lengths_of = _embed(embedder, altered, detector, name)
        measured.append(_condition(name, embedder, vectors, clean, lengths_of, names, threshold))
    if profile.any():
        mine = np.where(profile)[0]
        measured.append(
            _condition(f"yaw of {PROFILE_DEGREES:g}° and more", embedder, clean, clean, lengths, names, threshold, mine)
        )
    return measured


def _condition(
    name: str,
    embedder: FaceEmbedder,
    altered: Floats,
    clean: Floats,
    lengths: Floats,
    names: npt.NDArray[np.str_],
    threshold: float,
    probes: npt.NDArray[np.intp] | None = None,
) -> Condition:
    """Compares altered pictures with all clean ones but their own. `probes`: rows to use; None: all."""
    rows = np.arange(len(names)) if probes is None else probes
    accepted = (altered[rows] @ clean.T) >= threshold
    same = names[rows, None] == names[None]
    other = rows[:, None] != np.arange(len(names))[None]
    quality = np.array([embedder.quality(float(length)) for length in lengths[rows]])
    good = quality >= MIN_QUALITY
    genuine = same & other
    return Condition(
        name=name,
        pictures=len(rows),
        fnmr=_miss_rate(accepted, genuine),
        fmr=float(accepted[~same].mean()),
        quality=float(np.median(quality)),
        refused=float(1 - good.mean()),
        fnmr_of_accepted=_miss_rate(accepted[good], genuine[good]),
    )


def _miss_rate(accepted: npt.NDArray[np.bool_], genuine: npt.NDArray[np.bool_]) -> float:
    return float(1 - accepted[genuine].mean()) if genuine.any() else float("nan")


def _embed(
    embedder: FaceEmbedder, pictures: npt.NDArray[np.uint8], detector: FaceFinder, name: str
) -> tuple[Floats, Floats]:
    parts = [
        embed_pictures(embedder, pictures[start : start + BATCH], detector)
        for start in track(range(0, len(pictures), BATCH), description=f"embedding: {name}")
    ]
    return np.concatenate([part[0] for part in parts]), np.concatenate([part[1] for part in parts])


def _yaws(pictures: npt.NDArray[np.uint8], detector: FaceFinder) -> Floats:
    """Returns (n,) degrees; 0 without landmarks."""
    find = DetectorLandmarks(detector)
    points = [find(picture) for picture in track(pictures, description="locating landmarks")]
    known = [None if six is None or not six[:5, 2].all() else six[:5] for six in points]
    return np.array([0.0 if five is None else pose_of(five).yaw for five in known], np.float32)


def small(picture: Pixels, side: int = 32) -> Pixels:
    """A face whose aligned crop of 112 pixels was enlarged from `side` pixels."""
    whole = round(side * len(picture) / 112)
    reduced = cv2.resize(picture, (whole, whole), interpolation=cv2.INTER_AREA)
    return np.asarray(cv2.resize(reduced, picture.shape[1::-1], interpolation=cv2.INTER_CUBIC), np.uint8)


def dark(picture: Pixels) -> Pixels:
    """A tenth of the light, with Gaussian noise of two levels."""
    noise = np.random.default_rng(int(picture.sum()) % 2**32).normal(0, 2, picture.shape)
    return (picture * 0.1 + noise).round().clip(0, 255).astype(np.uint8)


def blurred(picture: Pixels) -> Pixels:
    """A Gaussian blur of three pixels in the aligned crop of 112."""
    return np.asarray(cv2.GaussianBlur(picture, (0, 0), 3.0), np.uint8)


def greyscale(picture: Pixels) -> Pixels:
    return np.repeat(cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)[..., None], 3, axis=2)


def infrared(picture: Pixels) -> Pixels:
    """Like a near-infrared camera: bright skin, dark irises, low contrast, and noise of three levels.

    Skin reflects most of the light between 800 and 900 nm, so that the red channel is nearest to it.
    """
    noise = np.random.default_rng(int(picture.sum()) % 2**32).normal(0, 3, picture.shape[:2])
    grey = 60 + 170 * (picture[..., 0] / 255.0) ** 0.6 + noise
    return np.repeat(grey.round().clip(0, 255).astype(np.uint8)[..., None], 3, axis=2)


def masked(picture: Pixels) -> Pixels:
    """A surgical mask from the bridge of the nose to the chin."""
    across = RIGHT_MOUTH[0] - LEFT_MOUTH[0]
    top, bottom = (NOSE[1] + LEFT_EYE[1]) / 2 + 4, LEFT_MOUTH[1] + 34
    left, right, middle = LEFT_MOUTH[0] - 0.8 * across, RIGHT_MOUTH[0] + 0.8 * across, NOSE[0]
    outline = [[left, top + 8], [middle, top], [right, top + 8], [right - 8, bottom - 14], [middle, bottom]]
    outline.append([left + 8, bottom - 14])
    return _filled(picture, [np.array(outline)], (186, 205, 214))


def in_sunglasses(picture: Pixels) -> Pixels:
    """Dark lenses around both eyes, and a bridge."""
    angles = np.linspace(0, 2 * np.pi, 24)
    lens = np.stack([16 * np.cos(angles), 11 * np.sin(angles)], axis=1)
    below = np.array([0, 3])
    bridge = np.array([LEFT_EYE, RIGHT_EYE, RIGHT_EYE + below, LEFT_EYE + below])
    return _filled(picture, [LEFT_EYE + lens, RIGHT_EYE + lens, bridge], (22, 22, 26))


def _filled(picture: Pixels, outlines: list[npt.NDArray[np.floating]], colour: tuple[int, int, int]) -> Pixels:
    result = np.ascontiguousarray(picture).copy()
    for outline in outlines:
        cv2.fillPoly(result, [np.round(outline).astype(np.int32)], colour, lineType=cv2.LINE_AA)
    return result


ALTERATIONS: dict[str, Callable[[Pixels], Pixels]] = {
    "face mask": masked,
    "sunglasses": in_sunglasses,
    "enlarged from 32 px": small,
    "dark": dark,
    "blurred": blurred,
    "greyscale": greyscale,
    "infrared-like": infrared,
}
