"""`python -m trainer import-parquet`"""

from pathlib import Path
from typing import Annotated

import typer


def import_parquet(
    source: Annotated[
        str,
        typer.Option(help="Parquet files: a path, a 'pattern/*.parquet', or hf://datasets/<owner>/<name>/<pattern>."),
    ],
    output: Annotated[Path, typer.Option(help="Where <identity>/<picture> goes; give it to `prepare --photos`.")],
    image: Annotated[str, typer.Option(help="Column of pictures.")] = "image",
    label: Annotated[
        str, typer.Option(help="Column of people: names, or numbers with names beside the schema.")
    ] = "label",
    classes: Annotated[int | None, typer.Option(min=1, help="At most so many people.")] = None,
    per_class: Annotated[int | None, typer.Option(min=1, help="At most so many pictures of each.")] = None,
    samples: Annotated[int | None, typer.Option(min=1, help="At most so many pictures.")] = None,
    probability: Annotated[float, typer.Option(min=0, max=1, help="With which each picture is considered.")] = 1.0,
    seed: Annotated[int, typer.Option(help="Of that chance.")] = 0,
) -> None:
    """Bring a face data set of the Hugging Face hub into folders of people.

    The files are read row by row, here or on the hub, and no further than the limits ask.
    """
    from rich.progress import track

    from trainer.importing import parquet

    limits = parquet.Limits(classes, per_class, samples, probability, seed)
    rows = parquet.limited(parquet.read(source, image, label), limits)
    count, refused = parquet.write_identities(iter(track(rows, description="importing", total=samples)), output)
    people = sum(1 for folder in output.iterdir() if folder.is_dir()) if output.exists() else 0
    typer.echo(f"{count} pictures of {people} people in {output}; {refused} rows without a picture")
