"""`python -m tools.measure_pose`: measures verification of frontal photos against profile photos.

The folder has the layout of CFP (Sengupta et al., "Frontal to profile face verification in the wild", WACV 2016):
`<person>/frontal/<photo>` and `<person>/profile/<photo>`. A photo without a detected face counts as a non-match.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from service.inference.detector import YoloFaceDetector
from service.inference.embedder import FaceEmbedder
from service.inference.engine import FaceChoice
from service.inference.graph import RuntimeOptions
from service.inference.pipeline import FacePipeline
from service.runtime.settings import BUNDLES
from trainer.archives import unpack
from trainer.embedder.evaluation import embed_photos
from trainer.embedder.scores import PairScores
from trainer.pictures import pictures_below
from trainer.tables import table

Floats = npt.NDArray[np.float32]
RATES = (1e-2, 1e-3, 1e-4)
KINDS = ("frontal", "profile")


def main(
    photos: Annotated[Path, typer.Option(help="Folder or zip archive of <person>/{frontal,profile}/<photo>.")],
    bundle: Annotated[Path, typer.Option(help="Embedder bundle.", show_default="the shipped one")] = (
        BUNDLES / "embedder"
    ),
    detector_bundle: Annotated[
        Path, typer.Option("--detector", help="Detector bundle.", show_default="the shipped one")
    ] = BUNDLES / "detector",
    work: Annotated[Path, typer.Option(help="Folder for extracted archives.")] = Path("runs/data"),
) -> None:
    """Print the true accept rates of the model, and of the model without its cohort."""
    folder = unpack([photos], work / "pose")
    detector = YoloFaceDetector(detector_bundle, RuntimeOptions(precision="auto"))
    embedder = FaceEmbedder(bundle, RuntimeOptions())
    lines = []
    for model in filter(None, (embedder, embedder.uncorrected())):
        engine = FacePipeline(detector, [model])
        lines += _measure(engine, model.manifest.model_id, folder)
    head = ("model", "pairs", "photos without a face", *(f"TAR at FMR {rate:g}" for rate in RATES))
    typer.echo(table(head, lines))


def _measure(engine: FacePipeline, model_id: str, folder: Path) -> list[tuple[object, ...]]:
    files = {kind: [path for path in pictures_below(folder) if path.parent.name == kind] for kind in KINDS}
    vectors = {kind: embed_photos(engine, paths, FaceChoice.STRONGEST) for kind, paths in files.items()}
    missing = sum(vector is None for of_kind in vectors.values() for vector in of_kind)
    lines = []
    for first, second in (("frontal", "frontal"), ("frontal", "profile")):
        people = [np.array([path.parents[1].name for path in files[kind]]) for kind in (first, second)]
        scores = _scores(vectors[first], vectors[second])
        other = np.triu(np.ones_like(scores, bool), 1) if first == second else np.ones_like(scores, bool)
        same = people[0][:, None] == people[1][None]
        pairs = PairScores(scores[same & other], scores[~same & other])
        rates = (f"{pairs.true_accept_rate(pairs.threshold_at(rate)):.3f}" for rate in RATES)
        lines.append((f"{model_id}, {first} and {second}", f"{len(pairs.genuine):,}", missing, *rates))
    return lines


def _scores(first: list[Floats | None], second: list[Floats | None]) -> Floats:
    """Returns the cosines of all pairs; -1 if one of the photos has no face."""
    scores = np.full((len(first), len(second)), -1, np.float32)
    rows = [row for row, vector in enumerate(first) if vector is not None]
    columns = [column for column, vector in enumerate(second) if vector is not None]
    found = np.stack([first[row] for row in rows]), np.stack([second[column] for column in columns])  # type: ignore[misc]
    scores[np.ix_(rows, columns)] = found[0] @ found[1].T
    return scores


if __name__ == "__main__":
    typer.run(main)
