"""The command `identity-trainer explore`"""

from pathlib import Path
from typing import Annotated

import typer

from trainer.options import BUNDLE, WORK, Work


def explore(
    identities: Annotated[list[Path], typer.Option(help="Folder or zip archive of <identity>/<picture>; repeatable.")],
    crops: Annotated[
        bool, typer.Option(help="The pictures are aligned crops; an embedder searches for label errors.")
    ] = True,
    bundle: Annotated[Path, typer.Option(help="Embedder bundle that searches for label errors.")] = BUNDLE,
    fewest: Annotated[int, typer.Option(min=1, help="The report counts people with fewer pictures than this.")] = 2,
    duplicate_cosine: Annotated[
        float, typer.Option(help="Minimum cosine of two identities' centroids to report them as one person.")
    ] = 0.6,
    output: Annotated[Path, typer.Option(help="Folder for the report.")] = Path("runs/explore"),
    work: Work = WORK,
) -> None:
    """Check a data set before training: pictures per person, sizes, duplicates and possible label errors.

    report.html is one file that contains all tables and pictures. Correct label errors in your folders, or list the
    identities under split.wrong_labels in the training YAML.
    """
    from service.inference.embedder import FaceEmbedder
    from service.inference.graph import RuntimeOptions
    from trainer.archives import unpack
    from trainer.configuration import ConfigError
    from trainer.embedder.aligned_crops import load_aligned_crops
    from trainer.embedder.embedding import embed_crops
    from trainer.explore import label_errors
    from trainer.explore.report import LabelFindings, write_report
    from trainer.explore.statistics import examine
    from trainer.pictures import pictures_by_identity

    folder = unpack(identities, work / "identities")
    people = pictures_by_identity(folder)
    pictures, unreadable = examine(people)
    if not pictures:
        raise ConfigError(f"there is no <identity>/<picture> below {folder}")
    findings = None
    if crops and not unreadable:
        loaded = load_aligned_crops(folder, None, work / "cache")
        embeddings = embed_crops(FaceEmbedder(bundle, RuntimeOptions()), loaded, range(len(loaded)))[0]
        findings = LabelFindings(
            label_errors.suspected_errors(embeddings, loaded.identities),
            label_errors.duplicate_identities(embeddings, loaded.identities, duplicate_cosine),
            loaded.files,
        )
    write_report(pictures, unreadable, findings, fewest, output)
    typer.echo(f"{len(pictures)} pictures of {len(people)} people: {output / 'report.html'}")
