"""Adds a stage with its own graph to a detector bundle, or replaces the one of the bundle."""

from pathlib import Path

from service.inference.bundle import file_sha256, write_manifest
from service.inference.manifest import DetectorManifest, FirstLook, LandmarkStage


def add_stage(
    bundle: Path, manifest: DetectorManifest, name: str, stage: LandmarkStage | FirstLook, graph: Path
) -> DetectorManifest:
    """Moves the graph of a stage into the bundle, and writes and returns the manifest that contains the stage.

    Args:
        manifest: the present manifest of the bundle.
        name: field of the manifest that describes the stage.
        graph: the file, on the file system of the bundle; it gets the name that the stage gives it.
    """
    files = manifest.files | {stage.graph: file_sha256(graph)}
    updated = manifest.model_copy(update={name: stage, "files": files})
    graph.rename(bundle / stage.graph)
    write_manifest(bundle, updated)
    return updated
