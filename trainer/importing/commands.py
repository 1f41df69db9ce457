"""The command `identity-trainer import-parquet`"""

from pathlib import Path
from typing import Annotated

import typer


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
