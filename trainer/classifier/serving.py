"""A classifier with the models before it, as the service runs them."""

from pathlib import Path

from service.errors import RegistryError
from service.inference.bundle import EmbedderManifest, embedding_fingerprint
from service.inference.classifier import Classifier
from service.inference.detector import YoloFaceDetector
from service.inference.embedder import FaceEmbedder
from service.inference.engine import FaceChoice, Picture
from service.inference.graph import RuntimeOptions
from service.inference.local import LocalEngine
from service.vision.image import ImageLimits
from trainer.configuration import ConfigError


def open_classifier(folder: Path, embedder: EmbedderManifest) -> Classifier:
    """Raises ConfigError where it was fitted on another embedder."""
    classifier = Classifier(folder)
    if classifier.manifest.embedder_fingerprint != embedding_fingerprint(embedder):
        raise ConfigError(f"{folder} was fitted on {classifier.manifest.embedder!r}: name its bundle with --bundle")
    return classifier


class Guesser:
    """Names the people on photos."""

    def __init__(self, classifier: Path, bundle: Path, detector: Path) -> None:
        embedder = FaceEmbedder(bundle, RuntimeOptions())
        self._classifier = open_classifier(classifier, embedder.manifest)
        finder = YoloFaceDetector(detector, RuntimeOptions(precision="auto"))
        self._engine = LocalEngine(finder, [embedder], ImageLimits())

    def guesses(self, photo: bytes, top_k: int) -> list[list[tuple[str, float]]]:
        """For every face the likeliest people.

        Raises:
            ConfigError: the photo can't be read or shows no face.
        """
        [seen] = self._engine.observe_now([Picture(photo, FaceChoice.ALL)])
        if isinstance(seen, RegistryError) or not seen.faces:
            raise ConfigError("no face is on the photo" if not isinstance(seen, RegistryError) else seen.detail)
        return [self._classifier.top(face.embedding, top_k) for face in seen.faces]
