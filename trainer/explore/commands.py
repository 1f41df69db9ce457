"""`python -m trainer explore`"""

from pathlib import Path
from typing import Annotated

import typer

from trainer.options import BUNDLE, WORK, Work


def explore(
    identities: Annotated[list[Path], typer.Option(help="Folder or zip of <identity>/<picture>; repeatable.")],
    canvases: Annotated[
        bool, typer.Option(help="The pictures are aligned canvases: an embedder looks for wrong names, too.")
    ] = True,
    bundle: Annotated[Path, typer.Option(help="Embedder that looks for wrong names.")] = BUNDLE,
    fewest: Annotated[int, typer.Option(min=1, help="People with fewer pictures are counted.")] = 2,
    twins: Annotated[float, typer.Option(help="Cosine of two people's centroids from which they are listed.")] = 0.6,
    output: Annotated[Path, typer.Option(help="Where the report goes.")] = Path("runs/explore"),
    work: Work = WORK,
) -> None:
    """Look at a data set before training: who, how many, what sizes, duplicates, doubtful names.

    `report.html` is one file with everything in it.
    """
    from service.inference.embedder import FaceEmbedder
    from service.inference.graph import RuntimeOptions
    from trainer.archives import unpack
    from trainer.configuration import ConfigError
    from trainer.embedder.canvases import load_canvases
    from trainer.embedder.embedding import embed_canvases
    from trainer.explore import labels
    from trainer.explore.report import Doubts, write_report
    from trainer.explore.statistics import examine
    from trainer.pictures import pictures_by_identity

    folder = unpack(identities, work / "identities")
    people = pictures_by_identity(folder)
    pictures, unreadable = examine(people)
    if not pictures:
        raise ConfigError(f"no <identity>/<picture> below {folder}")
    doubts = None
    if canvases and not unreadable:
        known = load_canvases(folder, None, work / "cache")
        embeddings = embed_canvases(FaceEmbedder(bundle, RuntimeOptions()), known, range(len(known)))[0]
        doubts = Doubts(
            labels.suspects(embeddings, known.identities),
            labels.twins(embeddings, known.identities, twins),
            known.files,
        )
    write_report(pictures, unreadable, doubts, fewest, output)
    typer.echo(f"{len(pictures)} pictures of {len(people)} people: {output / 'report.html'}")
