"""`python -m tools.bench_bundles`: compares bundles, from a picture's file to an embedding.

    make bench BUNDLES="shipped imported-models" [PHOTOS=folder]

All run in this process, alternating picture by picture, with the same number of threads. Times are medians on this
machine; compare the ratios, not the times, with other machines.
"""

import statistics
from pathlib import Path
from typing import Annotated

import typer
from rich.progress import track

from service.inference.detector import YoloFaceDetector
from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions
from service.inference.pipeline import FacePipeline
from service.runtime.settings import BUNDLES
from tools.bench_peers import SIZES, Registry, compare, jpeg, photos_in
from trainer.tables import table

SHIPPED = "shipped"


def open_bundles(name: str, threads: int) -> Registry:
    """Opens `detector` and `embedder` of a folder; what it lacks is the shipped one. The name `shipped`: both are."""
    folder = BUNDLES if name == SHIPPED else Path(name)
    parts = {kind: folder / kind for kind in ("detector", "embedder")}
    if not any(part.is_dir() for part in parts.values()):
        raise typer.BadParameter(f"{folder} has neither a folder `detector` nor `embedder`")
    detector, embedder = (part if part.is_dir() else BUNDLES / kind for kind, part in parts.items())
    return Registry(
        FacePipeline(
            YoloFaceDetector(detector, RuntimeOptions(precision="auto", threads=threads)),
            [FaceEmbedder(embedder, RuntimeOptions(threads=threads))],
        )
    )


def main(
    bundles: Annotated[
        list[str],
        typer.Argument(
            help="Folders with `detector`, `embedder` or both, as `models import` writes them; or `shipped`."
        ),
    ],
    photos: Annotated[Path | None, typer.Option(help="Folder of photos; default: those of the demonstration.")] = None,
    count: Annotated[int, typer.Option(min=1, help="Number of photos.")] = 20,
    repeats: Annotated[int, typer.Option(min=1, help="Number of rounds.")] = 3,
    threads: Annotated[int, typer.Option(min=1, help="Threads of each engine.")] = 2,
) -> None:
    """Print the milliseconds of each bundle for pictures of several sizes, and their ratio to the first one."""
    engines = {name: open_bundles(name, threads).embed for name in bundles}
    pictures = photos_in(photos, count)
    first, *others = engines
    lines = []
    for width, height in track(SIZES, description="measuring"):
        files = [jpeg(photo, width, height) for photo in pictures]
        times = {name: statistics.median(values) for name, values in compare(engines, files * repeats).items()}
        cells = [f"{times[name]:.1f}" for name in engines]
        lines.append((f"{width} x {height}", *cells, *(f"{times[name] / times[first]:.2f}" for name in others)))
    head = ("picture", *(f"{name}, ms" for name in engines), *(f"{name} / {first}" for name in others))
    typer.echo(table(head, lines))


if __name__ == "__main__":
    typer.run(main)
