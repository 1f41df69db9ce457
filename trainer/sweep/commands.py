"""`identity-trainer sweep`"""

from pathlib import Path
from typing import Annotated

import typer

from trainer.choices import DeviceName, PartName
from trainer.options import CONFIGS, DETECTOR_BUNDLE, WORK, Device, Identities, Provenance, Teachers, Work


def sweep(
    identities: Identities,
    config: Annotated[
        Path, typer.Option(help="YAML file with backbones, embedding dimensions and the training recipe.")
    ] = CONFIGS / "sweep.yaml",
    teacher: Teachers = None,
    query_image: Annotated[
        Path | None, typer.Option(help="Photo or aligned crop to search; unset: pictures of the gallery.")
    ] = None,
    gallery: Annotated[
        PartName | None,
        typer.Option(
            help="Part of the split to search and to measure; train and all include training people. Unset: the YAML's."
        ),
    ] = None,
    provenance: Provenance = None,
    detector: Annotated[Path, typer.Option(help="Detector bundle for --query-image.")] = DETECTOR_BUNDLE,
    output: Annotated[Path, typer.Option(help="Folder for runs and report; the same command resumes.")] = Path(
        "runs/sweep"
    ),
    resume: Annotated[
        bool, typer.Option(help="Continue the sweep of the folder; --no-resume deletes its runs first.")
    ] = True,
    device: Device = DeviceName.AUTO,
    work: Work = WORK,
) -> None:
    """Train several encoders with one recipe and compare accuracy, size, latency and search results.

    Each run writes `run_result.json` and a bundle that the service loads. The report is updated after every run. The
    same command resumes an interrupted sweep.
    """
    from service.inference.embedder import FaceEmbedder
    from service.inference.graph import RuntimeOptions
    from trainer.archives import unpack
    from trainer.embedder.aligned_crops import load_aligned_crops
    from trainer.provenance import complete, load_stated, origins_of
    from trainer.sweep.config import SweepConfig
    from trainer.sweep.gallery import Gallery, photo_query
    from trainer.sweep.report import write_report
    from trainer.sweep.running import delete_runs, run_all

    settings = SweepConfig.load(config)
    if gallery is not None:
        settings = settings.model_copy(update={"gallery": gallery.value})
    if not resume:
        delete_runs(settings, output)
    crops = load_aligned_crops(unpack(identities, work / "identities"), None, work / "cache")
    split = next(iter(settings.configurations().values())).split
    people = Gallery(crops, split, PartName(settings.gallery), settings.inference_batch_size)
    queries = [photo_query(query_image, detector)] if query_image else people.queries(settings.queries)
    stated = None if provenance is None else load_stated(provenance)
    published = {found for run in settings.configurations().values() if (found := run.published_weights)}
    terms = complete(stated, origins_of(None, teacher or (), ", ".join(sorted(published)) or None))
    measured = []
    for result in run_all(settings, crops, people, terms, output, teacher or (), work / "cache", device):
        embedder = FaceEmbedder(output / result.name / "bundle", RuntimeOptions(device=settings.evaluation_device))
        measured.append((result, [people.search(query, embedder, settings.top_k) for query in queries]))
        typer.echo(
            f"{result.name}: TAR {result.tar:.4f} at FMR {result.fmr:.2g}, rank 1 {result.rank_1:.4f}, "
            f"{result.megabytes:.1f} MB, {result.latency_ms:.1f} ms"
        )
        write_report(measured, people, queries, output)
    typer.echo(f"{len(measured)} encoders: {output / 'report.md'}")
