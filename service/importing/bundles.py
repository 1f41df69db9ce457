"""Writes bundles of imported models, and runs each once."""

import datetime
import hashlib
from dataclasses import dataclass
from pathlib import Path

import onnx

from service.errors import StartupError
from service.importing import constants, detector_graphs, embedder_graphs
from service.importing.graph_kinds import DetectorKind, ImportedDetector, ImportedEmbedder, recognise
from service.importing.sources import SourceFile
from service.inference.bundle import file_sha256, write_manifest
from service.inference.detector import YoloFaceDetector
from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions
from service.inference.manifest import DetectorManifest, EmbedderManifest, PixelScaling
from service.inference.provenance import Origin, Provenance, StatedTerms

GRAPH = "model.onnx"
SIZES = [320, 640]
"""Longer sides of a detector's input in pixels."""
SCALING = {
    DetectorKind.YUNET: PixelScaling(colour_order="BGR", mean=0, std=1),
    DetectorKind.SCRFD: PixelScaling(colour_order="RGB", mean=127.5, std=128),
}
MIN_SCORE = {DetectorKind.YUNET: 0.6, DetectorKind.SCRFD: 0.5}
MAX_IOU = {DetectorKind.YUNET: 0.3, DetectorKind.SCRFD: 0.4}
"""Defaults of OpenCV's demonstration and of InsightFace."""
FAMILIES = {DetectorKind.YUNET: "YuNet", DetectorKind.SCRFD: "SCRFD"}


@dataclass(frozen=True)
class Recognised:
    """A file whose kind is known, and its graph."""

    source: SourceFile
    model: onnx.ModelProto
    kind: ImportedDetector | ImportedEmbedder


def recognise_file(source: SourceFile) -> Recognised | None:
    """Returns the model of a file; None: it is no face detector and no embedder.

    Raises:
        StartupError: the file is not ONNX, or a file that the user named is of another kind.
    """
    try:
        model = onnx.load_model_from_string(source.content)
    except Exception:
        raise StartupError(f"{source.name} is not an ONNX file") from None
    try:
        kind = recognise(model, source.name)
    except StartupError:
        kind = None
    if kind is None:
        if source.named:
            raise StartupError(
                f"{source.name} is neither YuNet, SCRFD nor an embedder: the registry imports detectors with the "
                "published outputs of YuNet and SCRFD, and graphs with one vector for a square picture"
            )
        return None
    return Recognised(source, model, kind)


def write_detector(item: Recognised, folder: Path, model_id: str, terms: StatedTerms) -> DetectorManifest:
    """Writes a detector bundle. Raises StartupError."""
    assert isinstance(item.kind, ImportedDetector)
    constants.fold(item.model)
    landmarks = detector_graphs.decode_in_graph(item.model, item.kind, item.source.name)
    kind = item.kind.kind
    manifest = DetectorManifest(
        kind="detector",
        format_version=1,
        model_id=model_id,
        files=_save(item.model, folder),
        scaling=SCALING[kind],
        provenance=_provenance(item.source, terms, FAMILIES[kind]),
        input_sizes=SIZES,
        landmarks=5 if landmarks else 0,
        min_score=MIN_SCORE[kind],
        max_iou=MAX_IOU[kind],
        margin=0,
    )
    write_manifest(folder, manifest)
    YoloFaceDetector(folder, RuntimeOptions())
    return manifest


def write_embedder(
    item: Recognised, folder: Path, model_id: str, terms: StatedTerms, scaling: PixelScaling, mirror_average: bool
) -> EmbedderManifest:
    """Writes an embedder bundle, without a calibration. Raises StartupError."""
    assert isinstance(item.kind, ImportedEmbedder)
    constants.fold(item.model)
    embedder_graphs.make_batched(item.model)
    manifest = EmbedderManifest(
        kind="embedder",
        format_version=1,
        model_id=model_id,
        files=_save(item.model, folder),
        scaling=scaling,
        provenance=_provenance(item.source, terms, "embedder"),
        input_size=item.kind.input_size,
        alignment="five-point-112",
        embedding_dim=item.kind.dim,
        metric="cosine",
        mirror_average=mirror_average,
    )
    write_manifest(folder, manifest)
    FaceEmbedder(folder, RuntimeOptions())
    return manifest


def _save(model: onnx.ModelProto, folder: Path) -> dict[str, str]:
    folder.mkdir(parents=True, exist_ok=True)
    try:
        onnx.checker.check_model(model)
    except onnx.checker.ValidationError as error:
        raise StartupError(f"the rewritten graph is invalid: {error}") from None
    onnx.save(model, str(folder / GRAPH))
    return {GRAPH: file_sha256(folder / GRAPH)}


def _provenance(source: SourceFile, terms: StatedTerms, family: str) -> Provenance:
    digest = hashlib.sha256(source.content).hexdigest()
    return Provenance(
        created=datetime.datetime.now(datetime.UTC).date().isoformat(),
        data=[terms.data],
        terms=terms.terms,
        use=terms.use,
        origins=[Origin(name=f"{source.name} ({family})", terms=terms.terms, use=terms.use)],
        config_sha256=digest,
        initialised_from=f"{source.name} ({family}), imported without training; SHA-256 of the file: {digest}",
    )
