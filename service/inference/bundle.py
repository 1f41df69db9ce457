"""Reads and writes model bundles: a folder with a model's graph and a manifest that describes it.

The reader refuses unknown keys and files whose SHA-256 differs from the manifest. The classes that open a graph refuse
inputs and outputs of another shape than the manifest's.
"""

import hashlib
import json
from pathlib import Path

from pydantic import ValidationError

from service.errors import StartupError
from service.inference.manifest import MANIFEST_ADAPTER, DetectorManifest, EmbedderManifest

MANIFEST = "manifest.json"


def file_sha256(path: Path) -> str:
    """Returns the SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()


def equivalent_fingerprints(manifest: EmbedderManifest) -> list[str]:
    """Returns the fingerprints of all files of the bundle that give these embeddings, oldest first, this one last."""
    return [*manifest.supersedes, embedding_fingerprint(manifest)]


def read_manifest(folder: Path) -> DetectorManifest | EmbedderManifest:
    """Reads the manifest of a bundle and checks the files that it names.

    Raises:
        StartupError: there is no manifest, the manifest is invalid, or a file is missing or has another SHA-256.
    """
    try:
        manifest = MANIFEST_ADAPTER.validate_json((folder / MANIFEST).read_bytes())
    except FileNotFoundError:
        raise StartupError(f"{folder} is not a model bundle: it has no {MANIFEST}") from None
    except ValidationError as error:
        raise StartupError(f"{folder / MANIFEST}: {error}") from None
    if manifest.graph not in manifest.files:
        raise StartupError(f"{folder / MANIFEST}: `files` has no hash of the graph {manifest.graph!r}")
    for name, expected in manifest.files.items():
        path = folder / name
        if Path(name).name != name or not path.is_file():
            raise StartupError(f"{folder}: the manifest names the file {name!r}, which is not in the bundle")
        if file_sha256(path) != expected:
            raise StartupError(f"{path} is not the file that the manifest describes (its SHA-256 differs)")
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


def read_embedder(folder: Path) -> EmbedderManifest:
    """Reads and checks an embedder bundle. Raises StartupError like `read_manifest`, or for another kind of bundle."""
    manifest = read_manifest(folder)
    if not isinstance(manifest, EmbedderManifest):
        raise StartupError(f"{folder} is a bundle of the kind {manifest.kind}; an embedder is required")
    return manifest
