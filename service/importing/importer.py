"""Imports public models as bundles."""

import re
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from service.errors import StartupError
from service.importing.bundles import Recognised, recognise_file, write_detector, write_embedder
from service.importing.graph_kinds import ImportedDetector, ImportedEmbedder
from service.importing.sources import read_sources
from service.inference.manifest import MODEL_ID, PixelScaling
from service.inference.provenance import StatedTerms

ITSELF = (0.0, 1.0)
"""Mean and deviation of graphs that scale their input themselves."""


@dataclass(frozen=True)
class ImportOptions:
    """Choices of the user.

    Attributes:
        scaling: (mean, deviation) of an embedder's input; None: unknown.
        ask_scaling: asks for it if the graph does not tell; gets the name of the file. Raises StartupError.
    """

    model_id: str
    terms: StatedTerms
    scaling: tuple[float, float] | None
    ask_scaling: Callable[[str], tuple[float, float]]
    is_bgr: bool = False
    mirror_average: bool = False


@dataclass(frozen=True)
class Imported:
    """The folders of the written bundles `detector` and `embedder`, and the names of files with other models."""

    bundles: dict[str, Path]
    others: list[str]


def import_models(paths: Sequence[Path], output: Path, options: ImportOptions) -> Imported:
    """Writes `output/detector` and `output/embedder`. Nothing remains of an import that fails.

    Raises:
        StartupError: a file cannot be imported, several detectors or embedders were found, or a bundle exists already.
    """
    if re.fullmatch(MODEL_ID, options.model_id) is None:
        raise StartupError(
            f"--model-id {options.model_id!r}: use 3 to 64 lower-case letters, digits, dots, dashes and underscores"
        )
    detector, embedder, others = _recognise(paths)
    names = [name for name, item in (("detector", detector), ("embedder", embedder)) if item is not None]
    if existing := [output / name for name in names if (output / name).exists()]:
        raise StartupError(f"{existing[0]} exists; name another folder with --output")
    scaling = None if embedder is None else _scaling(embedder, options)
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=output, prefix=".import-") as unfinished:
        folder = Path(unfinished)
        if embedder is not None and scaling is not None:
            write_embedder(
                embedder, folder / "embedder", options.model_id, options.terms, scaling, options.mirror_average
            )
        if detector is not None:
            write_detector(detector, folder / "detector", f"{options.model_id}-detector", options.terms)
        for name in names:
            (folder / name).rename(output / name)
    return Imported({name: output / name for name in names}, others)


def _recognise(paths: Sequence[Path]) -> tuple[Recognised | None, Recognised | None, list[str]]:
    """Returns the detector, the embedder, and the names of the other files."""
    known: list[Recognised] = []
    others: list[str] = []
    for source in read_sources(paths):
        item = recognise_file(source)
        if item is None:
            others.append(source.name)
        else:
            known.append(item)
    if not known:
        raise StartupError(f"none of {', '.join(others)} is a face detector or an embedder")
    detector = _only([item for item in known if isinstance(item.kind, ImportedDetector)], "detectors")
    embedder = _only([item for item in known if isinstance(item.kind, ImportedEmbedder)], "embedders")
    return detector, embedder, others


def _only(items: Sequence[Recognised], kind: str) -> Recognised | None:
    if len(items) > 1:
        names = ", ".join(item.source.name for item in items)
        raise StartupError(f"found {len(items)} {kind} ({names}); name one of the files")
    return items[0] if items else None


def _scaling(item: Recognised, options: ImportOptions) -> PixelScaling:
    assert isinstance(item.kind, ImportedEmbedder)
    order: Literal["BGR", "RGB"] = "BGR" if options.is_bgr else "RGB"
    if item.kind.scales_itself:
        if options.scaling not in (None, ITSELF):
            raise StartupError(f"{item.source.name} scales pixel values itself; omit --scaling")
        return PixelScaling(colour_order=order, mean=0, std=1)
    mean, std = options.scaling or options.ask_scaling(item.source.name)
    return PixelScaling(colour_order=order, mean=mean, std=std)
