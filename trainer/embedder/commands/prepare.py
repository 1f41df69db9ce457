"""`identity-trainer prepare`"""

from pathlib import Path
from typing import Annotated

import typer

from trainer.options import Photos, Unpacked


def prepare(
    photos: Photos,
    output: Annotated[Path, typer.Option(help="Folder for the aligned crops; pass it to `train --identities`.")],
    finder: Annotated[str, typer.Option(help="Face detector: yolo, yunet, mtcnn or mediapipe.")] = "yolo",
    model_file: Annotated[
        Path | None,
        typer.Option(help="Bundle of yolo (unset: the shipped one), or model file of yunet or mediapipe."),
    ] = None,
    face: Annotated[
        str, typer.Option(help="Face to use of a photo with several: strongest or largest; `only` rejects the photo.")
    ] = "strongest",
    crop: Annotated[
        str, typer.Option(help="Align by `landmarks`, as the service does, or cut a square around the `box`.")
    ] = "landmarks",
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
    from trainer.configuration import choice
    from trainer.embedder.alignment import CropKind, Recipe
    from trainer.embedder.preparation import prepare as prepare_photos
    from trainer.embedder.sources import faces_by_box, faces_by_identity
    from trainer.finders import Finder, FinderName

    filters = Filters(clahe=Clahe() if clahe else None, bilateral=Bilateral() if bilateral else None)
    recipe = Recipe(choice(FaceChoice, face, "face"), choice(CropKind, crop, "crop"), padding, filters)
    detector = Finder(choice(FinderName, finder, "finder"), model_file)
    folder = unpack(photos, work)
    faces = faces_by_identity(folder, output) if boxes is None else faces_by_box(boxes, folder, output)
    result = prepare_photos(faces, output, detector, recipe, detector.key, workers)
    typer.echo(
        f"{result.written} aligned crops in {output}; {result.cached} photos were processed before; "
        f"{len(result.failures)} photos have no crop, see {output / 'failures.csv'}"
    )
