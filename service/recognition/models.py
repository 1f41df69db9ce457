"""Lists the loaded models and reads their calibrations."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from service.errors import CalibrationNotFound, ModelNotFound, StartupError
from service.inference.bundle_files import read_listed
from service.inference.calibration import Calibration, Precision
from service.inference.manifest import EmbedderManifest
from service.recognition.decision import DecisionResolver


@dataclass(frozen=True)
class LoadedBundle:
    """The folder and the manifest of a loaded embedder."""

    folder: Path
    manifest: EmbedderManifest


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A loaded model.

    Attributes:
        calibrated: requests may name error rates; otherwise only thresholds.
    """

    id: str
    dim: int
    precision: Precision
    calibrated: bool


@dataclass(frozen=True)
class ModelCatalogue:
    """The use cases that read the loaded models.

    Attributes:
        bundles: by model id, the main one first.
    """

    bundles: Mapping[str, LoadedBundle]
    resolver: DecisionResolver
    precision: Precision

    def list(self) -> list[LoadedModel]:
        """Returns the loaded models, the main one first."""
        return [
            LoadedModel(
                model_id,
                bundle.manifest.embedding_dim,
                self.precision,
                self.resolver.policy_of(model_id).range is not None,
            )
            for model_id, bundle in self.bundles.items()
        ]

    def calibration(self, model_id: str) -> Calibration:
        """Returns the calibration of a model, in the number format in use if there is one.

        Raises:
            ModelNotFound
            CalibrationNotFound
        """
        calibration = self._bundle(model_id).manifest.calibration_for(self.precision)
        if calibration is None:
            raise CalibrationNotFound(
                f"the bundle of the model {model_id!r} has no calibration; send a `threshold`, or measure a "
                "calibration with `identity-trainer calibrate`"
            )
        return calibration

    def det_curve(self, model_id: str) -> bytes:
        """Returns the DET curve as SVG. Raises ModelNotFound, CalibrationNotFound.

        The file is compared with its SHA-256 again, because it may have been replaced since the start.
        """
        picture = self.calibration(model_id).picture
        if picture is None:
            raise CalibrationNotFound(f"the bundle of the model {model_id!r} has no picture of its calibration")
        bundle = self._bundle(model_id)
        try:
            return read_listed(bundle.folder, bundle.manifest.files, picture)
        except (StartupError, OSError):
            raise CalibrationNotFound(
                f"the picture of the calibration of {model_id!r} has changed since the start of the service; restart it"
            ) from None

    def _bundle(self, model_id: str) -> LoadedBundle:
        if (bundle := self.bundles.get(model_id)) is None:
            raise ModelNotFound(f"the model {model_id!r} is not loaded; GET /models lists the loaded models")
        return bundle
