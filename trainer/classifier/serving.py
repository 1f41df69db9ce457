"""Runs a classifier with detector and embedder, as the service does."""

from pathlib import Path

from service.errors import RegistryError
from service.inference.classifier import Classifier
from service.inference.detector import YoloFaceDetector
from service.inference.embedder import FaceEmbedder
from service.inference.engine import FaceChoice, Picture
from service.inference.graph import RuntimeOptions
from service.inference.manifest import EmbedderManifest
from service.inference.pipeline import FacePipeline
from trainer.configuration import ConfigError


def open_classifier(folder: Path, embedder: EmbedderManifest) -> Classifier:
    """Opens a classifier.

    Raises:
        ConfigError: The classifier was fitted on another embedder.
    """
    classifier = Classifier(folder)
    if not classifier.manifest.fits(embedder):
        raise ConfigError(
            f"{folder} was fitted on the embedder {classifier.manifest.embedder!r}; name its bundle with --bundle"
        )
    return classifier


class Predictor:
    """Predicts the people on photos."""

    def __init__(self, classifier: Path, bundle: Path, detector: Path) -> None:
        embedder = FaceEmbedder(bundle, RuntimeOptions())
        self._classifier = open_classifier(classifier, embedder.manifest)
        finder = YoloFaceDetector(detector, RuntimeOptions(precision="auto"))
        self._engine = FacePipeline(finder, [embedder])

    def predict(self, photo: bytes, top_k: int) -> list[list[tuple[str, float]]]:
        """Returns for each face the `top_k` most probable people with their probabilities.

        Raises:
            ConfigError: The photo cannot be decoded or shows no face.
        """
        [observation] = self._engine.observe_files([Picture(photo, FaceChoice.ALL)])
        if isinstance(observation, RegistryError):
            raise ConfigError(observation.detail)
        if not observation.faces:
            raise ConfigError("the photo shows no face")
        return [self._classifier.top(face.embedding, top_k) for face in observation.faces]
