"""`identity-trainer boxes`"""

from pathlib import Path
from typing import Annotated

import typer

from trainer.choices import FinderName
from trainer.options import FinderOption, MinScore, ModelFile, Photos, Unpacked


def boxes(
    photos: Photos,
    output: Annotated[Path, typer.Option(help="CSV file to write; `prepare --boxes` reads it.")],
    finder: FinderOption = FinderName.YOLO,
    model_file: ModelFile = None,
    min_score: MinScore = None,
    work: Unpacked = Path("runs/data/photos"),
) -> None:
    """Write the box, the score and the landmarks of every face that a detector finds as CSV.

    Columns: photo, identity, x_min, y_min, x_max, y_max in pixels of the upright photo, score, and x and y of the five
    landmarks if the detector returns them.
    """
    from trainer.boxes.table import write_boxes
    from trainer.configuration import ConfigError
    from trainer.datasets.reading import read_photos
    from trainer.finders import Finder

    if output.is_dir():
        raise ConfigError(f"--output {output} is a folder; name a CSV file")
    listed = read_photos(photos, work)
    faces, without = write_boxes(listed, Finder(finder, model_file, min_score)(), output)
    typer.echo(
        f"{faces} faces of {len(listed)} photos in {output}; {without} photos without a face, or that cannot be read"
    )
