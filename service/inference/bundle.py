"""Reads and writes model bundles: a folder with a model's graph and a manifest that describes it.

The reader refuses unknown keys, files outside the folder, files that the manifest does not list, and files whose
SHA-256 differs from the manifest. The classes that open a graph refuse inputs and outputs of another shape than the
manifest's.
"""

import hashlib
import json
from pathlib import Path

from pydantic import ValidationError

from service.errors import StartupError
from service.inference.bundle_files import contained, file_sha256, read_listed, require_self_contained
from service.inference.cohort import Cohort, read_cohort
from service.inference.manifest import MANIFEST_ADAPTER, DetectorManifest, EmbedderManifest

__all__ = [
    "embedding_fingerprint",
    "equivalent_fingerprints",
    "file_sha256",
    "open_cohort",
    "read_detector",
    "read_embedder",
    "read_manifest",
    "write_manifest",
]
MANIFEST = "manifest.json"


def embedding_fingerprint(manifest: EmbedderManifest) -> str:
    """Returns a SHA-256 over everything that determines the embeddings, in hexadecimal.

    Embeddings of two bundles with the same fingerprint are comparable. Calibration, evaluation and the files beside
    the graph do not count, since they may be replaced.
    """
    relevant = manifest.model_dump(
        mode="json",
        include={"graph", "scaling", "input_size", "alignment", "embedding_dim", "metric", "mirror_average"},
    )
    # Optional blocks count only if they are set, so that the fingerprint of bundles without them stays the same.
    if manifest.filters.any:
        relevant["filters"] = manifest.filters.model_dump(mode="json")
    if manifest.landmark_channels is not None:
        relevant["landmark_channels"] = manifest.landmark_channels.model_dump(mode="json")
    relevant["files"] = {manifest.graph: manifest.files[manifest.graph]}
    if manifest.cohort is not None:
        relevant["cohort"] = {"sharpness": manifest.cohort.sharpness}
        relevant["files"][manifest.cohort.file] = manifest.files[manifest.cohort.file]
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


def equivalent_fingerprints(manifest: EmbedderManifest) -> list[str]:
    """Returns the fingerprints of all files of the bundle that give these embeddings, oldest first, this one last."""
    return [*manifest.supersedes, embedding_fingerprint(manifest)]


def read_manifest(folder: Path) -> DetectorManifest | EmbedderManifest:
    """Reads the manifest of a bundle and checks the files that it names.

    Raises:
        StartupError: there is no manifest, the manifest is invalid, or a file is missing, is outside the folder, is not
            listed, or has another SHA-256.
    """
    if not (folder / MANIFEST).is_file():
        raise StartupError(f"{folder} is not a model bundle: it has no {MANIFEST}")
    try:
        manifest = MANIFEST_ADAPTER.validate_json(contained(folder, MANIFEST).read_bytes())
    except ValidationError as error:
        raise StartupError(f"{folder / MANIFEST}: {error}") from None
    for name in dict.fromkeys((*manifest.graphs, *manifest.other_files, *manifest.files)):
        content = read_listed(folder, manifest.files, name)
        if name in manifest.graphs:
            require_self_contained(folder, name, content)
    return manifest


def write_manifest(folder: Path, manifest: DetectorManifest | EmbedderManifest) -> None:
    """Writes a manifest to its bundle; the folder must exist."""
    (folder / MANIFEST).write_text(json.dumps(manifest.model_dump(mode="json"), indent=2) + "\n")


def read_detector(folder: Path) -> DetectorManifest:
    """Reads and checks a detector bundle. Raises StartupError like `read_manifest`, or for another kind of bundle."""
    manifest = read_manifest(folder)
    if not isinstance(manifest, DetectorManifest):
        raise StartupError(f"{folder} is a bundle of the kind {manifest.kind}; a detector is required")
    return manifest


def open_cohort(folder: Path, manifest: EmbedderManifest) -> Cohort | None:
    """Returns the cohort of an embedder bundle; None if it has none. Raises StartupError."""
    if manifest.cohort is None:
        return None
    name = manifest.cohort.file
    content = read_listed(folder, manifest.files, name)
    return read_cohort(content, manifest.embedding_dim, manifest.cohort.sharpness, f"{folder / name}")


def read_embedder(folder: Path) -> EmbedderManifest:
    """Reads and checks an embedder bundle. Raises StartupError like `read_manifest`, or for another kind of bundle."""
    manifest = read_manifest(folder)
    if not isinstance(manifest, EmbedderManifest):
        raise StartupError(f"{folder} is a bundle of the kind {manifest.kind}; an embedder is required")
    return manifest
