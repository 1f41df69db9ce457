"""`python -m tools.fused_probes`: what several pictures of one person do to the errors of a comparison.

Pictures of people that the model never saw are fused, n at a time, into one probe: the normalised mean of their
embeddings. It is compared with single templates at the threshold that the service takes for so many pictures: each
counts as a comparison.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from service.gallery.people.templates import centroid_of
from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions
from service.inference.rates import rate_of_one
from service.runtime.settings import BUNDLES
from trainer.archives import unpack
from trainer.embedder.calibration import held_out_sample
from trainer.embedder.canvases import load_canvases
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.split import Part
from trainer.tables import table

Floats = npt.NDArray[np.float32]
FUSED = (1, 2, 3, 5, 8)
RATES = (1e-2, 1e-3, 1e-4)
DRAWS = 20


def main(
    identities: Annotated[list[Path], typer.Option(help="Canvases; people held out by the split take part.")],
    config: Annotated[Path, typer.Option(help="YAML with the split of people.")] = Path("configs/train.yaml"),
    work: Annotated[Path, typer.Option(help="Where archives are unpacked and decoded.")] = Path("runs/data"),
) -> None:
    """Print false match and true accept rates by the number of fused pictures."""
    canvases = load_canvases(unpack(identities, work / "identities"), None, work / "cache")
    embedder = FaceEmbedder(BUNDLES / "embedder", RuntimeOptions())
    sample = held_out_sample(embedder, canvases, EmbedderConfig.load(config).split, Part.CALIBRATION)
    calibration = embedder.manifest.calibration
    if calibration is None:
        raise typer.BadParameter("the embedder has no calibration")
    names = np.array(sample.names)
    people = [rows for rows in (np.flatnonzero(names == name) for name in np.unique(names)) if len(rows) > max(FUSED)]
    rows = []
    for count in FUSED:
        thresholds = [calibration.threshold_for(rate_of_one(rate, count)) for rate in RATES]
        impostor, genuine = _scores(sample.embeddings, names, people, count)
        cells = [f"{(impostor >= at).mean():.2g}" for at in thresholds]
        rows.append((str(count), *cells, *(f"{(genuine >= at).mean():.4f}" for at in thresholds)))
    head = ("pictures fused", *(f"FMR, {rate:g} asked" for rate in RATES), *(f"TAR at {rate:g}" for rate in RATES))
    typer.echo(f"{len(people)} people, {DRAWS} probes of each, against single templates of {len(set(names))} people\n")
    typer.echo(table(head, rows))


def _scores(
    embeddings: Floats, names: npt.NDArray[np.str_], people: list[npt.NDArray[np.intp]], count: int
) -> tuple[Floats, Floats]:
    rng = np.random.default_rng(0)
    impostor, genuine = [], []
    for rows in people:
        for _ in range(DRAWS):
            order = rng.permutation(rows)
            scores = embeddings @ centroid_of(embeddings[order[:count]])
            genuine.append(scores[order[count:]])
            impostor.append(scores[names != names[rows[0]]])
    return np.concatenate(impostor), np.concatenate(genuine)


if __name__ == "__main__":
    typer.run(main)
