"""Selects a face detector by its name."""

from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import Literal

from service.inference.bundle import MANIFEST, file_sha256
from service.inference.detector import YoloFaceDetector
from service.inference.engine import FaceFinder
from service.inference.graph import RuntimeOptions
from trainer.choices import FinderName
from trainer.configuration import ConfigError
from trainer.finders.mediapipe import open_mediapipe
from trainer.finders.mtcnn import MTCNN_MIN_SCORE, Mtcnn
from trainer.finders.yunet import YUNET_MIN_SCORE, YuNet

SHIPPED_BUNDLE = Path(str(files("service"))) / "bundles" / "detector"


@dataclass(frozen=True)
class Finder:
    """A face detector that every worker process can open.

    Attributes:
        precision: Number format of `yolo`; "auto" is that of the service on this processor.
        min_score: Minimum score of a face; None: the detector's default.
        path: Bundle folder of `yolo` (None: the shipped bundle) or model file of `yunet` and `mediapipe`. MTCNN's
            package contains its weights.

    Raises:
        ConfigError: The model file is missing.
    """

    name: FinderName
    path: Path | None
    min_score: float | None = None
    precision: Literal["f32", "auto"] = "f32"

    def __post_init__(self) -> None:
        if self.name in {FinderName.YUNET, FinderName.MEDIAPIPE} and self.path is None:
            raise ConfigError(f"{self.name} needs its model file; name it with --model-file")
        if self.path is not None and not self.path.exists():
            raise ConfigError(f"{self.path}: no such model")

    def __call__(self) -> FaceFinder:
        """Opens the detector with one thread, since several processes run at once.

        Raises:
            ConfigError: The detector's package is not installed, or the file is not its model.
        """
        if self.name is FinderName.YOLO:
            return YoloFaceDetector(
                self.path or SHIPPED_BUNDLE,
                RuntimeOptions(threads=1, precision=self.precision),
                min_score=self.min_score,
            )
        if self.name is FinderName.MTCNN:
            return Mtcnn(MTCNN_MIN_SCORE if self.min_score is None else self.min_score)
        assert self.path is not None
        if self.name is FinderName.MEDIAPIPE:
            return open_mediapipe(self.path, self.min_score)
        return YuNet(self.path, YUNET_MIN_SCORE if self.min_score is None else self.min_score)

    @property
    def key(self) -> str:
        """The name and a hash of the model, which distinguish results of different detectors in the cache."""
        score = "" if self.min_score is None else f" {self.min_score:g}"
        path = (self.path or SHIPPED_BUNDLE) if self.name is FinderName.YOLO else self.path
        if path is None:
            return f"{self.name}{score}"
        return f"{self.name} {file_sha256(path / MANIFEST if path.is_dir() else path)}{score}"
