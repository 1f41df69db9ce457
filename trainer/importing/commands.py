"""The commands `identity-trainer import-parquet` and `import-checkpoint`"""

from pathlib import Path
from typing import Annotated

import typer

from service.inference.provenance import Origin, Use


def import_parquet(
    source: Annotated[
        str,
        typer.Option(help="Parquet files: a path, a 'pattern/*.parquet', or hf://datasets/<owner>/<name>/<pattern>."),
    ],
    output: Annotated[Path, typer.Option(help="Folder for <identity>/<picture>; pass it to `prepare --photos`.")],
    image: Annotated[str, typer.Option(help="Column of pictures.")] = "image",
    label: Annotated[
        str, typer.Option(help="Column of identities: names, or numbers whose names the file's metadata contain.")
    ] = "label",
    classes: Annotated[int | None, typer.Option(min=1, help="Maximum number of people.")] = None,
    per_class: Annotated[int | None, typer.Option(min=1, help="Maximum number of pictures per person.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="Maximum number of pictures.")] = None,
    probability: Annotated[float, typer.Option(min=0, max=1, help="Probability with which a picture is used.")] = 1.0,
    chunk_rows: Annotated[int, typer.Option(min=1, help="Rows in memory at a time.")] = 64,
    first_row: Annotated[
        Path | None, typer.Option(help="Write columns, types and first values to this CSV file, and import nothing.")
    ] = None,
    seed: Annotated[int, typer.Option(help="Seed of the random selection.")] = 0,
) -> None:
    """Import a face data set of the Hugging Face hub as <identity>/<picture>.

    The files are read row by row, from disk or from the hub, and only as far as the limits require.
    """
    from trainer.importing import parquet
    from trainer.progress import track

    if first_row is not None:
        parquet.write_first_row(source, first_row)
        typer.echo(first_row.read_text())
        return
    limits = parquet.Limits(classes, per_class, samples, probability, seed)
    rows = parquet.limited(parquet.read(source, image, label, chunk_rows), limits)
    count, rejected = parquet.write_identities(iter(track(rows, description="importing", total=samples)), output)
    people = sum(1 for folder in output.iterdir() if folder.is_dir()) if output.exists() else 0
    typer.echo(f"{count} pictures of {people} people in {output}; {rejected} rows without a valid picture")


def import_checkpoint(
    checkpoint: Annotated[
        Path,
        typer.Argument(help="FaceNet weights of facenet-pytorch, or a face detector of Ultralytics that you trust."),
    ],
    model_id: Annotated[str, typer.Option(help="Permanent name of this model.")],
    output: Annotated[Path, typer.Option(help="Folder for the bundle `detector` or `embedder`.")] = Path(
        "imported-models"
    ),
    min_score: Annotated[
        float, typer.Option(min=0, max=1, help="Minimum score of a detection, for a detector.")
    ] = 0.35,
    data: Annotated[str, typer.Option(help="Training data of the weights, for the manifest.")] = "unknown",
    terms: Annotated[
        str, typer.Option(help="Terms of the weights, for the manifest.")
    ] = "those of the file's publisher; the import does not check them",
    use: Annotated[Use, typer.Option(help="What these terms permit; derived models inherit it.")] = Use.UNKNOWN,
) -> None:
    """Make a bundle of a public PyTorch checkpoint: FaceNet (InceptionResnetV1), or a face detector of Ultralytics.

    The content of the file tells its kind. Detectors may have five landmarks or none; without landmarks, faces are cut
    out as squares. A checkpoint of Ultralytics contains code, which this command executes: use only files that you
    trust. ONNX files: identity-registry models import.
    """
    from service.inference.bundle import file_sha256
    from trainer.importing import checkpoints
    from trainer.options import require_model_id

    require_model_id(model_id)
    kind = checkpoints.kind_of(checkpoint)
    provenance: dict[str, object] = {
        "data": [data],
        "terms": terms,
        "use": use,
        "origins": [Origin(name=checkpoint.name, terms=terms, use=use)],
        "initialised_from": f"{checkpoint.name}, SHA-256 {file_sha256(checkpoint)}",
    }
    if kind is checkpoints.Kind.DETECTOR:
        checkpoints.import_detector(checkpoint, output / "detector", model_id, min_score, provenance)
        typer.echo(f"{kind}: {output / 'detector'}")
        typer.echo(f"serve: REGISTRY_DETECTOR__BUNDLE={output / 'detector'} identity-registry serve")
        return
    checkpoints.import_embedder(checkpoint, output / "embedder", model_id, provenance)
    typer.echo(f"{kind}: {output / 'embedder'}")
    typer.echo(f"calibrate: identity-trainer calibrate --identities … --everybody --bundle {output / 'embedder'}")
