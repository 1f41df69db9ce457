"""`identity-trainer export`"""

from pathlib import Path
from typing import Annotated

import typer

from trainer.choices import Format
from trainer.options import WORK, Provenance, Work, require_model_id

MAX_CHECKED_CROPS = 128


def export(
    model_id: Annotated[str, typer.Option(help="Permanent name of this model; stored embeddings carry it.")],
    output: Annotated[Path, typer.Option(help="Bundle folder to write.")],
    checkpoint: Annotated[
        Path | None, typer.Option(help="Checkpoint of a training run, or the run's folder: the best of the last stage.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file of an encoder to pack without training: its published weights, or --initial."),
    ] = None,
    initial: Annotated[Path | None, typer.Option(help="For --config: file of weights.")] = None,
    provenance: Provenance = None,
    also: Annotated[
        list[Format] | None,
        typer.Option(help="Further format; repeatable."),
    ] = None,
    crops: Annotated[
        list[Path] | None,
        typer.Option(help="Aligned crops that check the formats of --also and calibrate int8; repeatable."),
    ] = None,
    work: Work = WORK,
) -> None:
    """Pack a checkpoint, or an encoder with published weights, into a bundle that the service loads.

    Every format is compared with the PyTorch model; the export fails if the embeddings differ.
    """
    import numpy as np

    from trainer.archives import unpack
    from trainer.embedder import export as exporting
    from trainer.embedder import training_people
    from trainer.embedder.aligned_crops import load_aligned_crops
    from trainer.embedder.checkpoints import open_encoder
    from trainer.embedder.crop_landmarks import served_landmarks
    from trainer.embedder.run_record import best_of_run
    from trainer.provenance import complete, load_stated, of_checkpoint, origins_of

    require_model_id(model_id)
    checkpoint = None if checkpoint is None else best_of_run(checkpoint)
    stated = None if provenance is None else load_stated(provenance)
    formats = also or []
    encoder, settings = open_encoder(checkpoint, config, initial)
    packed = origins_of(initial, published=settings.published_weights)
    terms = complete(stated, packed if checkpoint is None else of_checkpoint(checkpoint))
    pictures = points = None
    if crops:
        known = load_aligned_crops(unpack(crops, work / "identities"), None, work / "cache")
        rows = np.sort(np.random.default_rng(0).permutation(len(known))[:MAX_CHECKED_CROPS])
        pictures = np.asarray(known.pictures[rows])
        if settings.landmark_channels is not None:
            points = served_landmarks(known)[rows]
    people = None if checkpoint is None else training_people.of_run(checkpoint)
    manifest = exporting.export_encoder(encoder, settings, output, model_id, terms, formats, pictures, points, people)
    if formats:
        typer.echo((output / "formats.md").read_text())
    typer.echo(
        f"{output}: {manifest.model_id}, {(output / manifest.graph).stat().st_size / 1e6:.1f} MB, without a calibration"
    )
    typer.echo(f"terms: {manifest.provenance.terms}")
    typer.echo(f"next: identity-trainer calibrate --identities … --bundle {output}")
