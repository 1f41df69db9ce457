"""Locates six landmarks in every aligned crop and caches them."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt

from service.inference.bundle import file_sha256
from service.vision.heatmaps import POINTS
from trainer.cache import cached_array, content_key
from trainer.choices import FinderName, LandmarkFinderName
from trainer.configuration import ConfigError
from trainer.embedder.aligned_crops import AlignedCrops
from trainer.embedder.input_config import LandmarkChannelsConfig
from trainer.finders import DetectorLandmarks, DlibLandmarks, Finder, LandmarkFinder, MediaPipeLandmarks
from trainer.progress import track

Floats = npt.NDArray[np.float32]


def configured_landmarks(
    crops: AlignedCrops, channels: LandmarkChannelsConfig, name: LandmarkFinderName, file: Path | None
) -> Floats:
    """Returns (N, P, 3) landmarks for these channels: six points, or every point of a finder.

    Raises:
        ConfigError: The channels need another finder, or as `named_landmarks`.
    """
    if channels.finder is None:
        return named_landmarks(crops, name, file)
    if name is not channels.finder or file is None:
        raise ConfigError(
            f"landmark channels {channels.layout} need --landmarks {channels.finder} and its model file, named with "
            "--landmarks-file"
        )
    find = DlibLandmarks if name is LandmarkFinderName.DLIB else MediaPipeLandmarks
    key = f"{channels.layout} {file_sha256(file)}"
    return _cached_landmarks(crops, key, lambda: find(file).every, channels.points)


def named_landmarks(crops: AlignedCrops, name: LandmarkFinderName, file: Path | None) -> Floats:
    """Returns (N, 6, 3) landmarks in pixels of the crops; confidence 0 if the finder detects no face.

    Args:
        file: Model file of the finder, where its package contains none.

    Raises:
        ConfigError: The finder does not exist or is not installed, or its model file is missing.
    """
    if name is LandmarkFinderName.DLIB:
        if file is None:
            raise ConfigError("dlib needs a shape predictor of 68 points; name it with --landmarks-file")
        if not file.is_file():
            raise ConfigError(f"{file}: no such file; dlib's package contains no shape predictor, download one")
        return _cached_landmarks(crops, f"dlib {file_sha256(file)}", lambda: DlibLandmarks(file))
    finder = Finder(FinderName(name), file)

    def open_finder() -> LandmarkFinder:
        if finder.name is FinderName.MEDIAPIPE and file is not None:
            return MediaPipeLandmarks(file)
        return DetectorLandmarks(finder())

    return _cached_landmarks(crops, finder.key, open_finder)


def served_landmarks(crops: AlignedCrops) -> Floats:
    """Returns (N, 6, 3) landmarks of the shipped detector, which the service uses."""
    return named_landmarks(crops, LandmarkFinderName.YOLO, None)


def _cached_landmarks(
    crops: AlignedCrops, finder_key: str, open_finder: Callable[[], LandmarkFinder], points: int = POINTS
) -> Floats:
    file = crops.array.with_name(f"{crops.array.stem}-landmarks-{content_key(finder_key)}.npy")
    return cached_array(file, lambda: _find_all(crops, open_finder(), points))


def _find_all(crops: AlignedCrops, find: LandmarkFinder, count: int) -> Floats:
    landmarks = np.zeros((len(crops), count, 3), np.float32)
    for row in track(range(len(crops)), description="finding landmarks"):
        if (points := find(np.asarray(crops.pictures[row]))) is not None:
            landmarks[row] = points
    return landmarks
