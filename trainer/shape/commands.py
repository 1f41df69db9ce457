"""The commands `identity-trainer shape …`"""

from pathlib import Path
from typing import Annotated

import typer

from trainer.options import BUNDLE, CONFIGS, WORK, Bundle, Identities, Work

HELP = """Measure how the pose of a head affects its landmarks and its verification.

An autoencoder estimates the landmarks that a face would have from the front. The report shows error rates by yaw, and
whether alignment by these landmarks reduces them.

1. identity-trainer shape chunks --identities crops (collects landmarks)

2. identity-trainer shape train (trains the autoencoder)

3. identity-trainer shape report --identities crops (measures verification by yaw)
"""

app = typer.Typer(no_args_is_help=True, help=HELP)

Crops = Annotated[
    list[Path] | None,
    typer.Option(help="Folder or zip archive of <identity>/<aligned crop>, written by `prepare`; repeatable."),
]
Chunks = Annotated[Path, typer.Option(help="Folder of chunks, written by `shape chunks`.")]
CHUNKS, CONFIG, OUTPUT = Path("runs/shape/chunks"), CONFIGS / "shape.yaml", Path("runs/shape")


@app.command()
def chunks(
    identities: Crops = None,
    source: Annotated[
        str | None, typer.Option(help="Parquet files of labelled pictures: a path, a pattern or hf://…")
    ] = None,
    image: Annotated[str, typer.Option(help="For --source: column of pictures.")] = "image",
    label: Annotated[str, typer.Option(help="For --source: column of identities.")] = "label",
    samples: Annotated[int | None, typer.Option(min=1, help="For --source: maximum number of pictures.")] = None,
    classes: Annotated[int | None, typer.Option(min=1, help="For --source: maximum number of identities.")] = None,
    probability: Annotated[
        float, typer.Option(min=0, max=1, help="For --source: probability with which a picture is used.")
    ] = 1.0,
    output: Annotated[Path, typer.Option(help="Folder for the chunks.")] = CHUNKS,
    work: Work = WORK,
) -> None:
    """Detect the landmarks of many faces and store them in chunks of 5,000 faces.

    The faces come from aligned crops (--identities) or from a data set of the Hugging Face hub (--source).
    """
    from trainer.archives import unpack
    from trainer.choices import FinderName
    from trainer.configuration import ConfigError
    from trainer.embedder.aligned_crops import load_aligned_crops
    from trainer.embedder.crop_landmarks import served_landmarks
    from trainer.finders import Finder
    from trainer.importing import parquet
    from trainer.progress import track
    from trainer.shape import chunks as chunk_files

    if bool(identities) == bool(source):
        raise ConfigError("name either --identities or --source")
    if identities:
        crops = load_aligned_crops(unpack(identities, work / "identities"), None, work / "cache")
        faces = chunk_files.faces_of_crops(served_landmarks(crops), crops.identities)
    else:
        limits = parquet.Limits(classes=classes, samples=samples, probability=probability)
        rows = parquet.limited(parquet.read(source or "", image, label), limits)
        progress = track(rows, description="detecting landmarks", total=samples)
        faces = chunk_files.faces_of_rows(progress, Finder(FinderName.YOLO, None)())
    typer.echo(f"{chunk_files.write_chunks(faces, output):,} faces in {output}")


@app.command()
def train(
    chunks: Chunks = CHUNKS,
    config: Annotated[Path, typer.Option(help="YAML file with the settings of the run.")] = CONFIG,
    output: Annotated[Path, typer.Option(help="Folder for shape.pt and errors.md.")] = OUTPUT,
) -> None:
    """Train the autoencoder: from landmarks and pose to the landmarks of the same face from the front.

    The table compares its error with simpler estimates, on people who are not in the training part.
    """
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
    shape: Annotated[Path, typer.Option(help="Autoencoder that `shape train` wrote.")] = OUTPUT / "shape.pt",
    bundle: Bundle = BUNDLE,
    config: Annotated[
        Path | None,
        typer.Option(help="YAML file that trained a model whose bundle does not record its split."),
    ] = None,
    output: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("runs/evaluation/yaw"),
    work: Work = WORK,
) -> None:
    """Measure verification of held-out people by the larger yaw of the two faces of a pair.

    Three alignments are compared: the crops as they are, crops aligned again by the shipped detector's landmarks, and
    crops aligned by the autoencoder's frontal landmarks.
    """
    from service.inference.embedder import FaceEmbedder
    from service.inference.graph import RuntimeOptions
    from trainer.archives import unpack
    from trainer.embedder.aligned_crops import load_aligned_crops
    from trainer.embedder.training_people import recorded_split
    from trainer.shape.autoencoder import load
    from trainer.shape.report import write_report
    from trainer.shape.verification import compare_alignments

    model = load(shape)
    embedder = FaceEmbedder(bundle, RuntimeOptions())
    crops = load_aligned_crops(unpack(identities, work / "identities"), None, work / "cache")
    split = recorded_split(bundle, embedder.manifest, config, crops.identities)
    rates = compare_alignments(embedder, crops, split, model)
    typer.echo(write_report(rates, output))
