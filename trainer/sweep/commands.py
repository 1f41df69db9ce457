"""`python -m trainer sweep`"""

from pathlib import Path
from typing import Annotated

import typer

from trainer.options import DETECTOR_BUNDLE, WORK, Device, Identities, Provenance, Teacher, Work


def sweep(
    identities: Identities,
    config: Annotated[Path, typer.Option(help="YAML with backbones, dimensions and the recipe.")] = Path(
        "configs/sweep.yaml"
    ),
    teacher: Teacher = None,
    query_image: Annotated[
        Path | None, typer.Option(help="A photo or canvas to search for, in place of pictures of the gallery.")
    ] = None,
    gallery: Annotated[
        str | None, typer.Option(help="train, validation or calibration: whose pictures; unset: the YAML's.")
    ] = None,
    provenance: Provenance = Path("configs/provenance-own.yaml"),
    detector: Annotated[Path, typer.Option(help="Detector bundle, for --query-image.")] = DETECTOR_BUNDLE,
    output: Annotated[Path, typer.Option(help="Where runs and report go; the same command resumes.")] = Path(
        "runs/sweep"
    ),
    device: Device = "auto",
    work: Work = WORK,
) -> None:
    """Train many encoders alike and lay them side by side: accuracy, size, latency, and what each finds.

    Each run leaves `run_result.json` and a bundle that the service runs. A sweep that was stopped goes on with the same
    command. The report is written anew after every run.
    """
    import yaml

    from service.inference.embedder import FaceEmbedder
    from service.inference.graph import RuntimeOptions
    from trainer.archives import unpack
    from trainer.configuration import choice
    from trainer.embedder.canvases import load_canvases
    from trainer.embedder.split import Part
    from trainer.sweep.config import SweepConfig
    from trainer.sweep.gallery import Gallery, photo_query
    from trainer.sweep.report import write_report
    from trainer.sweep.running import run_all

    settings = SweepConfig.load(config)
    if gallery is not None:
        settings = settings.model_copy(update={"gallery": choice(Part, gallery, "gallery").value})
    canvases = load_canvases(unpack(identities, work / "identities"), None, work / "cache")
    split = next(iter(settings.configurations().values())).split
    people = Gallery(canvases, split, settings.gallery)
    asked = [photo_query(query_image, detector)] if query_image else people.queries(settings.queries)
    terms = yaml.safe_load(provenance.read_text())
    found = []
    for result in run_all(settings, canvases, people, terms, output, teacher, work / "cache", device):
        embedder = FaceEmbedder(output / result.name / "bundle", RuntimeOptions())
        found.append((result, [people.search(query, embedder, settings.top_k) for query in asked]))
        typer.echo(
            f"{result.name}: TAR {result.tar:.4f} at FMR {result.fmr:.2g}, rank 1 {result.rank_1:.4f}, "
            f"{result.megabytes:.1f} MB, {result.latency_ms:.1f} ms"
        )
        write_report(found, people, asked, output)
    typer.echo(f"{len(found)} encoders: {output / 'report.md'}")
