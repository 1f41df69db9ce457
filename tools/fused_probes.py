"""`python -m tools.fused_probes`: measures error rates of probes that are fused from several pictures of one person.

Fuses n pictures of a held-out person into one probe, the normalised mean of their embeddings, and compares it with
single templates. The threshold is the one that the service uses for n pictures, of which each counts as a comparison.
"""

from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer
from rich.progress import track

from service.gallery.index.centroids import centroid_of
from service.inference.calibration import rate_of_one
from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions
from service.runtime.settings import BUNDLES
from trainer.archives import unpack
from trainer.embedder.aligned_crops import load_aligned_crops
from trainer.embedder.calibration import held_out_sample
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.split import Part
from trainer.tables import table

Floats = npt.NDArray[np.float32]
FUSED = (1, 2, 3, 5, 8)
RATES = (1e-2, 1e-3, 1e-4)
DRAWS = 20
"""Probes per person and number of pictures."""


def main(
    identities: Annotated[
        list[Path],
        typer.Option(help="Folder or zip archive of <identity>/<aligned crop>; held-out people are used; repeatable."),
    ],
    config: Annotated[
        Path, typer.Option(help="YAML file that trained the embedder; its `split` says which people are held out.")
    ] = Path("configs/train.yaml"),
    work: Annotated[Path, typer.Option(help="Folder for extracted archives and cached artefacts.")] = Path("runs/data"),
) -> None:
    """Print false match rates and true accept rates by the number of fused pictures."""
    crops = load_aligned_crops(unpack(identities, work / "identities"), None, work / "cache")
    embedder = FaceEmbedder(BUNDLES / "embedder", RuntimeOptions())
    sample = held_out_sample(embedder, crops, EmbedderConfig.load(config).split, Part.CALIBRATION)
    calibration = embedder.manifest.calibration
    if calibration is None:
        raise typer.BadParameter("the shipped embedder has no calibration; run `identity-trainer calibrate`")
    names = np.array(sample.names)
    people = [rows for rows in (np.flatnonzero(names == name) for name in np.unique(names)) if len(rows) > max(FUSED)]
    rows = []
    for count in track(FUSED, description="fused pictures", transient=True):
        thresholds = [calibration.threshold_for(rate_of_one(rate, count)) for rate in RATES]
        impostor, genuine = _scores(sample.embeddings, names, people, count)
        false_matches = [f"{(impostor >= threshold).mean():.2g}" for threshold in thresholds]
        true_accepts = [f"{(genuine >= threshold).mean():.4f}" for threshold in thresholds]
        rows.append((str(count), *false_matches, *true_accepts))
    head = ("pictures fused", *(f"FMR, {rate:g} requested" for rate in RATES), *(f"TAR at {rate:g}" for rate in RATES))
    templates = f"single templates of {len(set(names))} people"
    typer.echo(f"{len(people)} people, {DRAWS} probes per person, compared with {templates}\n")
    typer.echo(table(head, rows))


def _scores(
    embeddings: Floats, names: npt.NDArray[np.str_], people: list[npt.NDArray[np.intp]], count: int
) -> tuple[Floats, Floats]:
    """Returns impostor and genuine scores, -1 to 1, of probes that are fused from `count` pictures each.

    Args:
        embeddings: (N, D) normalised embeddings.
        names: (N,) identities.
        people: rows of each person.
    """
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
