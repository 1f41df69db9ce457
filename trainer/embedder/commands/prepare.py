"""`identity-trainer prepare`"""

from pathlib import Path
from typing import Annotated

import typer

from trainer.choices import CropKind, FinderName, PhotoFace
from trainer.options import FaceOption, FinderOption, MinScore, ModelFile, Photos, Unpacked


def prepare(
    photos: Photos,
    output: Annotated[Path, typer.Option(help="Folder for the aligned crops; pass it to `train --identities`.")],
    finder: FinderOption = FinderName.YOLO,
    model_file: ModelFile = None,
    min_score: MinScore = None,
    face: FaceOption = PhotoFace.STRONGEST,
    crop: Annotated[
        CropKind, typer.Option(help="Align by `landmarks`, as the service does, or cut a square around the `box`.")
    ] = CropKind.LANDMARKS,
    boxes: Annotated[
        Path | None,
        typer.Option(help="CSV of photo, identity, x_min, y_min, x_max, y_max; only these faces are prepared."),
    ] = None,
    padding: Annotated[
        float, typer.Option(min=0, max=2, help="For --crop box: padding on each side, as a fraction of the box.")
    ] = 0.15,
    clahe: Annotated[bool, typer.Option(help="Equalise contrast (CLAHE) in the crops.")] = False,
    bilateral: Annotated[bool, typer.Option(help="Smooth noise (bilateral filter) in the crops.")] = False,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; unset: one per core.")] = None,
    work: Unpacked = Path("runs/data/photos"),
) -> None:
    """Detect and align the faces of your photos, as input of `train`.

    `failures.csv` lists the photos without a crop and the reason; `samples.jpg` and `failures.jpg` show samples.
    Results are cached by content: run the same command again after you add photos or after an interruption.

    --clahe and --bilateral change the crops themselves. For a model that the service runs, set `filters` in the
    training YAML instead: training and service then both apply them.
    """
    from service.inference.engine import FaceChoice
    from service.vision.filters import Bilateral, Clahe, Filters
    from trainer.archives import unpack
    from trainer.configuration import ConfigError
    from trainer.datasets.label_table import BOX, read_table
    from trainer.datasets.reading import read_photos
    from trainer.embedder.alignment import Recipe
    from trainer.embedder.preparation import prepare as prepare_photos
    from trainer.embedder.sources import assign_targets
    from trainer.finders import Finder

    filters = Filters(clahe=Clahe() if clahe else None, bilateral=Bilateral() if bilateral else None)
    recipe = Recipe(FaceChoice(face), crop, padding, filters)
    detector = Finder(finder, model_file, min_score)
    listed = read_photos(photos, work) if boxes is None else read_table(boxes, unpack(photos, work))
    if boxes is not None and any(photo.box is None for photo in listed):
        raise ConfigError(f"{boxes} has no boxes: it needs the columns {', '.join(BOX)}. Name it with --photos instead")
    sources = assign_targets(listed, output)
    result = prepare_photos(sources, output, detector, recipe, detector.key, workers)
    typer.echo(
        f"{result.written} aligned crops in {output}; {result.cached} photos were processed before; "
        f"{len(result.failures)} photos have no crop, see {output / 'failures.csv'}"
    )
    targets = {source.target for source in sources}
    if others := sum(path not in targets for path in output.rglob("*.webp")):
        typer.echo(f"{others} other aligned crops in {output} are not of listed photos; delete them if they are old")
