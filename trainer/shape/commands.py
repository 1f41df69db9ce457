"""`python -m trainer shape …`"""

from pathlib import Path
from typing import Annotated

import typer

from trainer.options import BUNDLE, WORK, Bundle, Identities, Work

app = typer.Typer(
    no_args_is_help=True,
    help="What turning a face does to its landmarks, and to verification: an autoencoder of landmarks, and a report.",
)

Canvases = Annotated[list[Path] | None, typer.Option(help="Folder or zip of <identity>/<canvas>; repeatable.")]
Chunks = Annotated[Path, typer.Option(help="Folder of chunks.")]
Config = Annotated[Path, typer.Option(help="YAML with the settings.")]
CHUNKS, CONFIG, OUTPUT = Path("runs/shape/chunks"), Path("configs/shape.yaml"), Path("runs/shape")


@app.command()
def chunks(
    identities: Canvases = None,
    source: Annotated[str | None, typer.Option(help="Parquet of pictures with labels, or hf://…")] = None,
    image: Annotated[str, typer.Option(help="Its column of pictures.")] = "image",
    label: Annotated[str, typer.Option(help="Its column of people.")] = "label",
    samples: Annotated[int | None, typer.Option(min=1, help="At most so many of its pictures.")] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="At most so many of its people.")] = None,
    probability: Annotated[float, typer.Option(min=0, max=1, help="With which each of them is considered.")] = 1.0,
    output: Chunks = CHUNKS,
    work: Work = WORK,
) -> None:
    """Find the landmarks of many faces and keep them in chunks of 5,000, of canvases or of a data set of the hub."""
    from trainer.archives import unpack
    from trainer.configuration import ConfigError
    from trainer.embedder.canvases import load_canvases
    from trainer.embedder.landmark_finders import served_landmarks
    from trainer.finders import Finder, FinderName
    from trainer.importing import parquet
    from trainer.shape import chunks as writing

    if bool(identities) == bool(source):
        raise ConfigError("name --identities or --source")
    if identities:
        canvases = load_canvases(unpack(identities, work / "identities"), None, work / "cache")
        faces = writing.faces_of_canvases(served_landmarks(canvases), canvases.identities)
    else:
        limits = parquet.Limits(classes=classes, samples=samples, probability=probability)
        rows = parquet.limited(parquet.read(source or "", image, label), limits)
        faces = writing.faces_of_rows(rows, Finder(FinderName.YOLO, None)())
    typer.echo(f"{writing.write_chunks(faces, output):,} faces in {output}")


@app.command()
def train(chunks: Chunks = CHUNKS, config: Config = CONFIG, output: Annotated[Path, typer.Option()] = OUTPUT) -> None:
    """Train the autoencoder: pose and landmarks in, the person's landmarks from the front out."""
    from trainer.shape import autoencoder
    from trainer.shape.chunks import read_chunks
    from trainer.shape.config import ShapeConfig
    from trainer.shape.report import errors_table

    errors = autoencoder.train(read_chunks(chunks), ShapeConfig.load(config), output)
    text = errors_table(errors)
    (output / "errors.md").write_text(text + "\n")
    typer.echo(text)


@app.command()
def report(
    identities: Identities,
    shape: Annotated[Path, typer.Option(help="What `train` wrote.")] = OUTPUT / "shape.pt",
    bundle: Bundle = BUNDLE,
    config: Annotated[Path, typer.Option(help="YAML that trained the embedder, for the split of people.")] = Path(
        "configs/train.yaml"
    ),
    output: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("runs/evaluation/yaw"),
    work: Work = WORK,
) -> None:
    """Verification rates of held-out people by how far the more turned of two faces looks to the side.

    Of the canvases as they are, of crops aligned anew by the service's detector, and by the autoencoder's canonical
    landmarks.
    """
    import numpy as np

    from service.inference.embedder import FaceEmbedder
    from service.inference.graph import RuntimeOptions
    from trainer.archives import unpack
    from trainer.configuration import ConfigError
    from trainer.embedder.calibration import held_out_rows
    from trainer.embedder.canvases import load_canvases
    from trainer.embedder.config import EmbedderConfig
    from trainer.embedder.embedding import embed_canvases
    from trainer.embedder.landmark_finders import served_landmarks
    from trainer.embedder.split import Part
    from trainer.shape.autoencoder import load
    from trainer.shape.report import write_report
    from trainer.shape.verification import by_yaw, embed_realigned, yaws

    model = load(shape)
    embedder = FaceEmbedder(bundle, RuntimeOptions())
    canvases = load_canvases(unpack(identities, work / "identities"), None, work / "cache")
    landmarks = served_landmarks(canvases)[:, :5]
    held_out = held_out_rows(canvases, EmbedderConfig.load(config).split, Part.CALIBRATION)
    rows = [row for row in held_out if landmarks[row, :, 2].all()]
    if len(rows) < 2:
        raise ConfigError("the split keeps nobody back whose landmarks were found")
    names = [canvases.identities[row] for row in rows]
    yaw = yaws(landmarks[rows])
    usual = by_yaw(embed_canvases(embedder, canvases, rows)[0], names, yaw)
    points = np.asarray(landmarks[rows])
    anew, canonical = (
        by_yaw(embed_realigned(embedder, canvases, rows, points, way), names, yaw) for way in (None, model)
    )
    typer.echo(write_report(usual, anew, canonical, output))
