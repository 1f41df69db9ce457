"""`identity-trainer export`"""

from pathlib import Path
from typing import Annotated

import typer

from trainer.options import BUNDLE, WORK, Provenance, Work

MAX_CHECKED_CROPS = 128


def export(
    checkpoint: Annotated[Path, typer.Option(help="Checkpoint of a training run.")],
    model_id: Annotated[str, typer.Option(help="Permanent name of this model; stored embeddings carry it.")],
    output: Annotated[Path, typer.Option(help="Bundle folder to write.")] = BUNDLE,
    provenance: Provenance = Path("configs/provenance-embedder.yaml"),
    also: Annotated[
        list[str] | None,
        typer.Option(help="Further format: torchscript, torch-export, openvino, litert or litert-int8; repeatable."),
    ] = None,
    crops: Annotated[
        list[Path] | None,
        typer.Option(help="Aligned crops that check the formats of --also and calibrate int8; repeatable."),
    ] = None,
    work: Work = WORK,
) -> None:
    """Pack a checkpoint into a bundle that the service loads.

    Every format is compared with the PyTorch model; the export fails if the embeddings differ.
    """
    import numpy as np
    import yaml

    from trainer.archives import unpack
    from trainer.configuration import choice
    from trainer.embedder import export as exporting
    from trainer.embedder.aligned_crops import load_aligned_crops
    from trainer.embedder.checkpoints import load_encoder
    from trainer.embedder.crop_landmarks import served_landmarks
    from trainer.embedder.formats import Format

    formats = [choice(Format, name, "also") for name in also or []]
    pictures = points = None
    if crops:
        known = load_aligned_crops(unpack(crops, work / "identities"), None, work / "cache")
        rows = np.sort(np.random.default_rng(0).permutation(len(known))[:MAX_CHECKED_CROPS])
        pictures = np.asarray(known.pictures[rows])
        if load_encoder(checkpoint)[1].landmark_channels is not None:
            points = served_landmarks(known)[rows]
    terms = yaml.safe_load(provenance.read_text())
    manifest = exporting.export(checkpoint, output, model_id, terms, formats, pictures, points)
    if formats:
        typer.echo((output / "formats.md").read_text())
    typer.echo(f"{output}: {manifest.model_id}, {(output / manifest.graph).stat().st_size / 1e6:.1f} MB")
