"""A bundle: a folder with a model's graph and the manifest that says all there is to know to run it.

Nothing about pre- or post-processing is guessed from file or node names. The loader refuses an unknown key, a file
that is not the one described, and a graph whose input or output is not of the described shape.
"""

import hashlib
import json
from pathlib import Path
from typing import Annotated, Literal, Self

import numpy as np
from pydantic import Field, TypeAdapter, ValidationError, model_validator

from service.errors import StartupError
from service.strict_model import Strict
from service.vision.filters import Filters
from service.vision.heatmaps import LandmarkChannels

MANIFEST = "manifest.json"
Precision = Literal["f32", "bf16"]


class PixelScaling(Strict):
    """`(pixel - mean) / std` on values of 0...255, in the given order of colours."""

    colour_order: Literal["RGB", "BGR"] = "RGB"
    mean: float
    std: float = Field(gt=0)


Interval = tuple[float, float]
"""The 95 % confidence interval of a rate, by bootstrap over people."""


class CalibrationPoint(Strict):
    """The threshold at which this false match rate was measured, and the false non-match rate there."""

    fmr: float = Field(gt=0, lt=1)
    threshold: float = Field(ge=-1, le=1)
    fnmr: float = Field(ge=0, le=1)
    fmr_interval: Interval | None = None
    fnmr_interval: Interval | None = None


class IdentificationPoint(Strict):
    """What searches in galleries of one size did at the threshold for an asked FPIR.

    Attributes:
        gallery_size: people in the gallery, one template each.
        fpir: measured false positive identification rate; its interval by bootstrap over the people searched for.
        fnir: measured false negative rate: the right person's score was below the threshold, or another's was higher.
    """

    gallery_size: int = Field(ge=1)
    asked_fpir: float = Field(gt=0, lt=1)
    threshold: float = Field(ge=-1, le=1)
    fpir: float = Field(ge=0, le=1)
    fpir_interval: Interval
    fnir: float = Field(ge=0, le=1)


class Calibration(Strict):
    """Thresholds for asked false match rates, measured on people the model never saw.

    `points` run from the highest rate to the lowest one that the data can tell: ten impostor pairs or more lie above
    every threshold.
    """

    precision: Precision
    impostor_pairs: int = Field(ge=1)
    genuine_pairs: int = Field(ge=1)
    data: str
    people: int | None = Field(None, ge=2)
    points: list[CalibrationPoint] = Field(min_length=2)
    identification: list[IdentificationPoint] = Field(default_factory=list)
    picture: str | None = Field(None, description="file of the bundle with the DET curve as SVG")

    @model_validator(mode="after")
    def _is_monotonic(self) -> Self:
        rates = [point.fmr for point in self.points]
        thresholds = [point.threshold for point in self.points]
        if rates != sorted(set(rates), reverse=True) or thresholds != sorted(thresholds):
            raise ValueError("calibration points go from high to low FMR, with thresholds that never fall")
        return self

    def threshold_for(self, fmr: float) -> float:
        """Interpolated in the logarithm of the rate, in which the tail of impostor scores is nearly straight."""
        log_rates = np.log10([point.fmr for point in reversed(self.points)])
        return float(np.interp(np.log10(fmr), log_rates, [point.threshold for point in reversed(self.points)]))


class Provenance(Strict):
    """Where the weights come from and what they may be used for."""

    created: str
    data: list[str]
    terms: str
    config_sha256: str
    initialised_from: str


class _Manifest(Strict):
    format_version: Literal[1]
    model_id: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{2,63}$")
    graph: str = "model.onnx"
    files: dict[str, str]
    scaling: PixelScaling
    provenance: Provenance
    evaluation: dict[str, float] = Field(default_factory=dict)


class LandmarkStage(Strict):
    """A graph that finds the landmarks of an aligned crop: (n, 3, size, size) RGB of 0...255 to (n, 15), for each of
    five points x and y in parts of the crop's side, and a confidence. Where it `verifies`, to (n, 16): the last number
    is the probability that the crop shows a face."""

    graph: str
    input_size: int = Field(ge=16)
    margin: float = Field(ge=0, description="around the crop of 112 pixels, in its pixels")
    verifies: bool = False
    config_sha256: str


class DetectorManifest(_Manifest):
    """A YOLO pose graph: (n, 3, s, s) to (n, 20, anchors): box centre and size, score, five landmark triples."""

    kind: Literal["detector"]
    input_sizes: list[int] = Field(min_length=1, description="square inputs it was checked at, ascending")
    landmarks: Literal[5]
    min_score: float = Field(gt=0, lt=1, description="score from which on a detection counts, unless told otherwise")
    max_iou: float = Field(gt=0, lt=1, description="overlap above which the weaker of two boxes is dropped")
    landmark_stage: LandmarkStage | None = None

    @model_validator(mode="after")
    def _has_its_landmark_graph(self) -> Self:
        if self.landmark_stage is not None and self.landmark_stage.graph not in self.files:
            raise ValueError(f"`files` has no hash of the graph {self.landmark_stage.graph!r}")
        return self


class EmbedderManifest(_Manifest):
    """An embedder graph: (n, 3, size, size) aligned crops to (n, dim) embeddings."""

    kind: Literal["embedder"]
    input_size: int = Field(ge=16)
    alignment: Literal["five-point-112"]
    filters: Filters = Field(Filters(), description="of the crop, before its values are scaled")
    landmark_channels: LandmarkChannels | None = Field(None, description="that follow the colours in its input")
    embedding_dim: int = Field(ge=8, le=4000)
    metric: Literal["cosine"]
    mirror_average: bool = Field(description="the embedding is the mean of the crop's and its mirror picture's")
    reference_lengths: list[float] = Field(
        [],
        description="percentiles 0 to 100 of the length of unseen people's embeddings before normalisation",
    )
    calibration: Calibration | None = None

    @property
    def channels(self) -> int:
        """Of its input."""
        return 3 if self.landmark_channels is None else 3 + self.landmark_channels.count


Manifest = Annotated[DetectorManifest | EmbedderManifest, Field(discriminator="kind")]
_ADAPTER: TypeAdapter[DetectorManifest | EmbedderManifest] = TypeAdapter(Manifest)


def file_sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def embedding_fingerprint(manifest: "EmbedderManifest") -> str:
    """Tells whether two bundles give comparable embeddings: a hash of everything that shapes them.

    Calibration, evaluation and the files beside the graph are left out, since they may be made anew.
    """
    shaping = manifest.model_dump(
        mode="json",
        include={"graph", "scaling", "input_size", "alignment", "embedding_dim", "metric", "mirror_average"},
    )
    if manifest.filters.any:  # bundles without filters keep the fingerprint that they had before there were any
        shaping["filters"] = manifest.filters.model_dump(mode="json")
    if manifest.landmark_channels is not None:
        shaping["landmark_channels"] = manifest.landmark_channels.model_dump(mode="json")
    shaping["files"] = {manifest.graph: manifest.files[manifest.graph]}
    return hashlib.sha256(json.dumps(shaping, sort_keys=True).encode()).hexdigest()


def read_manifest(folder: Path) -> DetectorManifest | EmbedderManifest:
    """Read and check a bundle.

    Raises:
        StartupError: no manifest, a key that this release doesn't know, or a file that is not the described one.
    """
    try:
        manifest = _ADAPTER.validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise StartupError(f"{folder} is not a model bundle: it has no {MANIFEST}") from None
    except ValidationError as error:
        raise StartupError(f"{folder / MANIFEST}: {error}") from None
    if manifest.graph not in manifest.files:
        raise StartupError(f"{folder / MANIFEST}: `files` has no hash of the graph {manifest.graph!r}")
    for name, expected in manifest.files.items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise StartupError(f"{folder}: the file {name!r} of the manifest is not in the bundle")
        if file_sha256(path) != expected:
            raise StartupError(f"{path} is not the file that the manifest describes (its SHA-256 differs)")
    return manifest


def write_manifest(folder: Path, manifest: DetectorManifest | EmbedderManifest) -> None:
    """Write a manifest; the graph must lie in the folder already."""
    (folder / MANIFEST).write_text(json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n")


def read_detector(folder: Path) -> DetectorManifest:
    manifest = read_manifest(folder)
    if not isinstance(manifest, DetectorManifest):
        raise StartupError(f"{folder} holds an {manifest.kind}, not a detector")
    return manifest


def read_embedder(folder: Path) -> EmbedderManifest:
    manifest = read_manifest(folder)
    if not isinstance(manifest, EmbedderManifest):
        raise StartupError(f"{folder} holds a {manifest.kind}, not an embedder")
    return manifest
