"""Manifest of a model bundle: everything that is needed to run its graph and to interpret the outputs.

The service derives no pre- or post-processing from file or node names.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, TypeAdapter, model_validator

from service.inference.calibration import Calibration, Precision
from service.inference.provenance import Provenance
from service.strict_model import Strict
from service.vision.filters import Filters
from service.vision.heatmaps import LandmarkChannels

MODEL_ID = r"^[a-z0-9][a-z0-9._-]{2,63}$"


class PixelScaling(Strict):
    """Scaling of pixel values before the graph: `(pixel - mean) / std` on values of 0 to 255, in this colour order."""

    colour_order: Literal["RGB", "BGR"] = "RGB"
    mean: float
    std: float = Field(gt=0)


class HeldOut(Strict):
    """Fractions of the identities that took no part in the training; a hash of the name selects them.

    Attributes:
        validation: selected the checkpoint.
        calibration: measured the thresholds.
    """

    validation: float = Field(ge=0, le=1)
    calibration: float = Field(ge=0, le=1)


class _Manifest(Strict):
    """Common part of all manifests.

    Attributes:
        files: SHA-256, in hexadecimal, of every file of the bundle by name.
        evaluation: results of the evaluation by name.
    """

    format_version: Literal[1]
    model_id: str = Field(pattern=MODEL_ID)
    graph: str = "model.onnx"
    files: dict[str, str]
    scaling: PixelScaling
    provenance: Provenance
    evaluation: dict[str, float] = Field(default_factory=dict)

    @property
    def graphs(self) -> list[str]:
        """Names of the files that a runtime executes."""
        return [self.graph]

    @property
    def other_files(self) -> list[str]:
        """Names of the other files that the service reads."""
        return []


class LandmarkStage(Strict):
    """A graph for landmark refinement and, if `verifies` is set, face verification.

    Its input is (n, 3, size, size) RGB crops with values of 0 to 255. Its output is (n, 15): x, y and confidence of
    five points, where x and y are fractions of the crop's side. With `verifies` it is (n, 16); the last number is the
    probability that the crop shows a face.
    """

    graph: str
    input_size: int = Field(ge=16)
    margin: float = Field(ge=0, description="border around the crop of 112 pixels, in pixels of that crop")
    verifies: bool = False
    config_sha256: str


class FirstLook(Strict):
    """A smaller YOLO graph with the same outputs, which is tried first if one prominent face is needed."""

    graph: str
    input_size: int = Field(ge=96, multiple_of=32, description="longer side of the input in pixels")
    config_sha256: str


class DetectorManifest(_Manifest):
    """Manifest of a detector with one class and five landmarks, or with boxes alone.

    The graph maps (n, 3, height, width) to (n, 20, anchors), as YOLO does: centre and size of the box, score, and x, y
    and confidence of five landmarks; without landmarks to (n, 5, anchors). `service.importing` rewrites the graphs of
    other families. Faces without landmarks are cut out as squares around their
    boxes.
    """

    kind: Literal["detector"]
    input_sizes: list[int] = Field(min_length=1, description="square input sizes that were tested, ascending")
    landmarks: Literal[0, 5]
    min_score: float = Field(gt=0, lt=1, description="default minimum score of a detection")
    max_iou: float = Field(gt=0, lt=1, description="overlap above which the box with the lower score is dropped")
    margin: float = Field(
        0.1, ge=0, le=0.5, description="width of the grey margins beside the shorter side, as a share of the longer one"
    )
    landmark_stage: LandmarkStage | None = None
    first_look: FirstLook | None = None

    @model_validator(mode="after")
    def _stage_has_landmarks(self) -> Self:
        if self.landmark_stage is not None and not self.landmarks:
            raise ValueError("a landmark stage refines landmarks; the detector has none")
        return self

    @property
    def graphs(self) -> list[str]:
        further = [stage.graph for stage in (self.landmark_stage, self.first_look) if stage is not None]
        return [self.graph, *further]


class UncorrectedModel(Strict):
    """The model of the same graph without the cohort. Collections that were created with it still use it.

    Attributes:
        supersedes: as in `EmbedderManifest`.
    """

    model_id: str = Field(pattern=MODEL_ID)
    calibration: Calibration | None = None
    further_calibrations: list[Calibration] = Field(default_factory=list)
    supersedes: list[str] = Field(default_factory=list)


class CohortNormalisation(Strict):
    """Correction of embeddings by a cohort, a `.npy` file: see `service.inference.cohort`.

    Attributes:
        uncorrected: None: no collection can exist that uses the graph without the cohort.
    """

    file: str
    sharpness: float = Field(gt=0)
    data: list[str]
    config_sha256: str
    uncorrected: UncorrectedModel | None = None


class EmbedderManifest(_Manifest):
    """Manifest of an embedder graph, which maps (n, channels, size, size) aligned crops to (n, dim) embeddings.

    Attributes:
        supersedes: `embedding_fingerprint` of each earlier file of this bundle that has identical outputs, oldest
            first. Databases and classifiers that were created with one of them accept this bundle.
    """

    kind: Literal["embedder"]
    input_size: int = Field(ge=16)
    alignment: Literal["five-point-112"]
    filters: Filters = Field(Filters(), description="applied to the crop before its values are scaled")
    landmark_channels: LandmarkChannels | None = Field(None, description="input channels after the three colours")
    embedding_dim: int = Field(ge=8, le=4000)
    metric: Literal["cosine"]
    mirror_average: bool = Field(description="the embedding is the mean over the crop and its mirror image")
    reference_lengths: list[float] = Field(
        [],
        description="percentiles 0 to 100 of the length of embeddings before normalisation, of people who are not in "
        "the training data",
    )
    calibration: Calibration | None = None
    further_calibrations: list[Calibration] = Field([], description="in other number formats")
    split: HeldOut | None = Field(None, description="null: the identities were listed by name, or are unknown")
    supersedes: list[str] = Field(default_factory=list)
    cohort: CohortNormalisation | None = None

    @property
    def channels(self) -> int:
        """Number of channels of the graph's input."""
        return 3 if self.landmark_channels is None else 3 + self.landmark_channels.count

    @property
    def other_files(self) -> list[str]:
        files = [] if self.cohort is None else [self.cohort.file]
        calibrations = [calibration for model in self.models for calibration in model.calibrations]
        return files + [item.picture for item in calibrations if item.picture is not None]

    @property
    def calibrations(self) -> list[Calibration]:
        """The calibrations, in one number format each."""
        return [*([] if self.calibration is None else [self.calibration]), *self.further_calibrations]

    def calibration_for(self, precision: Precision) -> Calibration | None:
        """Returns the calibration in a number format; without one that in another format, whose thresholds differ."""
        return next((item for item in self.calibrations if item.precision == precision), self.calibration)

    @property
    def uncorrected(self) -> "EmbedderManifest | None":
        """The manifest of the same graph without the cohort; None if there is none."""
        if self.cohort is None or self.cohort.uncorrected is None:
            return None
        model = self.cohort.uncorrected
        names = ("model_id", "calibration", "further_calibrations", "supersedes")
        changes = {name: getattr(model, name) for name in names}
        return self.model_copy(update=changes | {"cohort": None, "evaluation": {}})

    @property
    def models(self) -> "list[EmbedderManifest]":
        """The models that a process serves with this bundle, the main one first."""
        return [self, *([] if self.uncorrected is None else [self.uncorrected])]


Manifest = Annotated[DetectorManifest | EmbedderManifest, Field(discriminator="kind")]
MANIFEST_ADAPTER: TypeAdapter[DetectorManifest | EmbedderManifest] = TypeAdapter(Manifest)
