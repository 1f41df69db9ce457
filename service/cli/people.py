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
    from service.transfer.run import Outcome, Transfer

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


@app.command("lfw", help="Enrol LFW, unpacked; as `import folders`.")
@app.command("deepface", help="Enrol a database of DeepFace, its `db_path`; as `import folders`.")
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

    with _transfer(url, key_file, collection, face, force, report) as (transfer, finish):
        finish(transfer.run(in_folders(folder)))


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
        _transfer(url, key_file, collection, face, force, report) as (transfer, finish),
        httpx.Client(base_url=source, headers=headers, timeout=60) as client,
    ):
        finish(transfer.run(in_compreface(client)))


@app.command("insightface-server")
def insightface_server(
    source: Annotated[
        str, typer.Argument(help="URL of InsightFace Server, or its database file for embeddings without pictures.")
    ],
    source_collection: Annotated[str, typer.Option(help="Collection of InsightFace Server.")] = "_default",
    source_key_file: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="File with its API key, if it requires one.")
    ] = None,
    model_id: Annotated[
        str | None, typer.Option(help="For a database file: the model of its embeddings, which the registry runs, too.")
    ] = None,
    url: Url = REGISTRY,
    key_file: KeyFile = None,
    collection: Collection = "default",
    face: Face = "only",
    force: Force = False,
    report: Report = REPORT,
) -> None:
    """Enrol the people of a collection of InsightFace Server.

    Its API serves the crops of 112 pixels that it saves with `save_face_crops`; they are small, so that most need
    `--force`. Without them, its database file contains embeddings: import its model first (`models import`).

    Example: `identity-registry import insightface-server http://localhost:18097 --source-collection employees --force`.
    """
    import httpx

    from service.transfer.insightface_server import in_insightface_server, read_insightface_database

    if "://" not in source:
        if model_id is None:
            raise StartupError("the embeddings of a database need --model-id: only the same model can compare them")
        with _transfer(url, key_file, collection, face, force, report) as (transfer, finish):
            finish(transfer.run_embeddings(read_insightface_database(Path(source), source_collection), model_id))
        return
    headers = {} if source_key_file is None else {"authorization": f"Bearer {source_key_file.read_text().strip()}"}
    with (
        _transfer(url, key_file, collection, face, force, report) as (transfer, finish),
        httpx.Client(base_url=source, headers=headers, timeout=60) as client,
    ):
        finish(transfer.run(in_insightface_server(client, source_collection)))


@app.command("embeddings")
def embeddings(
    file: Annotated[
        Path,
        typer.Argument(
            exists=True, dir_okay=False, help="*.npz, *.npy with --names, or *.pkl: by name, or of DeepFace."
        ),
    ],
    model_id: Annotated[str, typer.Option(help="Model of the embeddings, which must be that of the collection.")],
    names: Annotated[
        Path | None, typer.Option(exists=True, dir_okay=False, help="Text file with one name for each row of *.npy.")
    ] = None,
    url: Url = REGISTRY,
    key_file: KeyFile = None,
    collection: Collection = "default",
    force: Force = False,
    report: Report = REPORT,
) -> None:
    """Enrol embeddings without pictures, computed with a model that the registry runs, too (`models import`).

    They are templates without quality; `--force` is necessary in collections that check it. A later change of the model
    needs new pictures of these people.

    Example: `identity-registry import embeddings db/ds_model_arcface.pkl --model-id arcface-r50 --force`.
    """
    from service.transfer.embeddings import read_embeddings

    with _transfer(url, key_file, collection, "only", force, report) as (transfer, finish):
        finish(transfer.run_embeddings(read_embeddings(file, names), model_id))


@contextlib.contextmanager
def _transfer(
    url: str, key_file: Path | None, collection: str, face: str, force: bool, report: Path
) -> "Iterator[tuple[Transfer, Callable[[list[Outcome]], None]]]":
    """Yields a transfer with a progress bar, and the function that writes the report and prints a summary."""
    try:
        from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

        from identity_registry import Registry
        from identity_registry.errors import RegistryError
        from service.transfer.rest import SourceError
        from service.transfer.run import Transfer, summary, write_report
    except ImportError as error:
        raise StartupError(f"`import` needs: pip install ./clients/python ({error})") from error

    columns = TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
    with Registry(url, client_key.read(key_file)) as registry, Progress(*columns) as bar:
        task = bar.add_task("reading pictures", total=None)

        def show(job: Any) -> None:
            bar.update(task, description="enrolling", total=job.total, completed=job.done)

        def finish(outcomes: "list[Outcome]") -> None:
            write_report(outcomes, report)
            bar.stop()
            typer.echo(f"{summary(outcomes)}\nreport: {report}" if outcomes else "there are no pictures")
            if not outcomes:
                sys.exit(1)

        try:
            yield Transfer(registry, collection, face, force, show), finish
        except (RegistryError, SourceError, ValueError) as error:
            raise StartupError(str(error)) from error
