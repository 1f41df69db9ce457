"""Embeddings of people who did not train the shipped model, for tools that measure it."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import typer

from service.inference.calibration import Calibration
from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions
from service.runtime.settings import BUNDLES
from trainer.archives import unpack
from trainer.embedder.aligned_crops import load_aligned_crops
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.embedding import embed_crops
from trainer.embedder.split import Part, part_of

Floats = npt.NDArray[np.float32]
HELD_OUT = {Part.VALIDATION, Part.CALIBRATION}


def held_out_embeddings(
    identities: Sequence[Path], config: Path, work: Path
) -> tuple[Floats, npt.NDArray[np.str_], Calibration]:
    """Returns (n, dim) embeddings of the shipped model, the (n,) names of their people, and its calibration.

    Args:
        identities: folders or zip archives of <identity>/<aligned crop>.
        config: the YAML file that trained the embedder; its `split` says which people are held out.
        work: folder for extracted archives and cached artefacts.

    Raises:
        typer.BadParameter: the shipped embedder has no calibration.
    """
    embedder = FaceEmbedder(BUNDLES / "embedder", RuntimeOptions())
    calibration = embedder.manifest.calibration
    if calibration is None:
        raise typer.BadParameter("the shipped embedder has no calibration; run `identity-trainer calibrate`")
    crops = load_aligned_crops(unpack(list(identities), work / "identities"), None, work / "cache")
    split = EmbedderConfig.load(config).split
    rows = [row for row, name in enumerate(crops.identities) if name and part_of(name, split) in HELD_OUT]
    embeddings, _ = embed_crops(embedder, crops, rows)
    return embeddings, np.array([crops.identities[row] for row in rows]), calibration
