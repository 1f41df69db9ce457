"""`import`: enrols the people of other systems."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from service.cli import client_key
from service.errors import StartupError

if TYPE_CHECKING:
    from service.transfer.people import PersonPicture

app = typer.Typer(
    no_args_is_help=True,
    help="Enrol the people of other systems. Their pictures are embedded again: embeddings of another model cannot be "
    "compared.",
)
Url = Annotated[str, typer.Option("--url", help="URL of the registry.")]
KeyFile = Annotated[
    Path | None, typer.Option(exists=True, dir_okay=False, help="File with the API key; default: $API_KEY.")
]
Collection = Annotated[str, typer.Option(help="Collection to enrol into.")]
Face = Annotated[Literal["only", "strongest", "largest"], typer.Option(help="Face of each picture.")]
Force = Annotated[bool, typer.Option("--force", help="Enrol faces that the quality limits refuse.")]
Report = Annotated[Path, typer.Option(help="CSV file with one line for each picture.")]
REGISTRY, REPORT = "http://127.0.0.1:8000", Path("import-report.csv")


@app.command("folders")
def folders(
    folder: Annotated[Path, typer.Argument(exists=True, file_okay=False, help="Folder of <person>/<picture>.")],
    url: Url = REGISTRY,
    key_file: KeyFile = None,
    collection: Collection = "default",
    face: Face = "only",
    force: Force = False,
    report: Report = REPORT,
) -> None:
    """Enrol the pictures <person>/<picture> of a folder: LFW, a database of DeepFace, or your own.

    Files of embeddings in the folder, such as *.pkl, are not read. A repetition enrols nothing twice.

    Example: `identity-registry import folders lfw/ --collection lfw`.
    """
    from service.transfer.people import in_folders

    with _transfer(url, key_file, collection, face, force, report) as run:
        run(in_folders(folder))


@app.command("compreface")
def compreface(
    source: Annotated[str, typer.Argument(help="URL of CompreFace, such as http://localhost:8000.")],
    source_key_file: Annotated[
        Path,
        typer.Option(exists=True, dir_okay=False, help="File with the API key of CompreFace's recognition service."),
    ],
    url: Url = REGISTRY,
    key_file: KeyFile = None,
    collection: Collection = "default",
    face: Face = "only",
    force: Force = False,
    report: Report = REPORT,
) -> None:
    """Enrol the subjects of a face collection of CompreFace, with the pictures that it stores.

    Example: `identity-registry import compreface http://compreface:8000 --source-key-file key.txt --url
    http://127.0.0.1:8080`.
    """
    import httpx

    from service.transfer.people import in_compreface

    headers = {"x-api-key": source_key_file.read_text().strip()}
    with (
        _transfer(url, key_file, collection, face, force, report) as run,
        httpx.Client(base_url=source, headers=headers, timeout=60) as client,
    ):
        run(in_compreface(client))


@contextlib.contextmanager
def _transfer(
    url: str, key_file: Path | None, collection: str, face: str, force: bool, report: Path
) -> "Iterator[Callable[[Iterator[PersonPicture]], None]]":
    """Yields the function that enrols pictures with a progress bar, writes the report and prints a summary."""
    try:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from identity_registry import Registry
        from identity_registry.errors import RegistryError
        from service.transfer.people import SourceError
        from service.transfer.run import Transfer, summary, write_report
    except ImportError as error:
        raise StartupError(f"`import` needs: pip install ./clients/python ({error})") from error

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Registry(url, client_key.read(key_file)) as registry, Progress(*columns) as bar:
        task = bar.add_task("reading pictures", total=None)

        def show(job: Any) -> None:
            bar.update(task, description="enrolling", total=job.total, completed=job.done)

        def run(pictures: "Iterator[PersonPicture]") -> None:
            outcomes = Transfer(registry, collection, face, force, show).run(pictures)
            write_report(outcomes, report)
            bar.stop()
            typer.echo(f"{summary(outcomes)}\nreport: {report}" if outcomes else "there are no pictures")
            if not outcomes:
                sys.exit(1)

        try:
            yield run
        except (RegistryError, SourceError, ValueError) as error:
            raise StartupError(str(error)) from error
