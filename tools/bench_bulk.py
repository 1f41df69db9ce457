"""`python -m tools.bench_bulk`: measures bulk enrolment of embeddings beside a bare COPY of the same number of rows.

The job includes upload, planning, audit entries and results; COPY only writes the three tables. With `--pictures` it
also enrols an archive of `<person>/<picture>.jpg`. The memory is that of the process that serves the API and runs jobs.
"""

import asyncio
import io
import time
import uuid
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import psutil
import typer

from service.demo.server import running_registry
from service.embedded_postgres.lease import EmbeddedPostgres
from service.gallery.people import collections
from service.gallery.storage.database import Database
from tools.bulk_load import copy_people
from tools.synthetic_gallery import Floats, make_gallery
from trainer.tables import table

EMBEDDINGS, PICTURES = "/jobs/embedding-enrolments", "/jobs/enrolments"
FOLDER = "postgres"
"""Folder of the embedded database below the folder of data."""
ZIP = {"content-type": "application/zip"}
Row = tuple[str, str, str, str, str]


def bare_copy(url: str, name: str, people: Floats, model_id: str) -> float:
    """Returns the seconds of a COPY into the tables of identities, templates and centroids of a collection."""

    async def collection() -> collections.Collection:
        database = Database(url)
        async with database.transaction() as connection:
            found = await collections.get(connection, name)
        await database.close()
        return found

    return copy_people(url, asyncio.run(collection()), [uuid.uuid4() for _ in people], people, "COPY", model_id)


def archive_of(people: Floats) -> bytes:
    file = io.BytesIO()
    np.savez(file, embeddings=people, external_id=np.array([f"person-{number}" for number in range(len(people))]))
    return file.getvalue()


def served() -> psutil.Process:
    """Returns the process of the registry that this process started."""
    return next(child for child in psutil.Process().children() if "serve" in child.cmdline())


def run_job(client: httpx.Client, collection: str, path: str, body: bytes, query: dict[str, Any]) -> Row:
    """Enrols an archive. The time ends when the job is done, by the clock of the same machine."""
    service = served()
    before = highest = service.memory_info().rss
    started = datetime.now(UTC)
    response = client.post(path, params={"collection": collection} | query, content=body, headers=ZIP)
    response.raise_for_status()
    while (job := client.get(response.headers["location"]).json())["state"] in ("waiting", "running"):
        highest = max(highest, service.memory_info().rss)
        time.sleep(1)
    seconds = (datetime.fromisoformat(job["finished_at"]) - started).total_seconds()
    accepted = f"{job['counts']['accepted']:,} of {job['total']:,}"
    rate = f"{job['total'] / seconds:,.0f}"
    return f"job, {path.rpartition('/')[2]}", accepted, f"{seconds:.1f}", rate, f"{(highest - before) / 1e6:.0f}"


def main(
    people: Annotated[int, typer.Option(min=1_000, help="Number of embeddings.")] = 100_000,
    rounds: Annotated[int, typer.Option(min=1, help="Number of times that COPY and job take turns.")] = 2,
    pictures: Annotated[Path | None, typer.Option(help="Zip archive of <person>/<picture>.jpg.")] = None,
) -> None:
    """Print the rates of a bare COPY and of bulk enrolments, into collections of the same database."""
    embeddings = make_gallery(people, 128, 2, 0).people
    rows = []
    with running_registry() as client, EmbeddedPostgres(Path(served().environ()["REGISTRY_DATA_DIR"], FOLDER)) as url:
        model = client.get("/models").json()["models"][0]["id"]

        def create(name: str) -> str:
            client.post("/collections", json={"name": name, "quality": "off"}).raise_for_status()
            return name

        for number in range(rounds):
            seconds = bare_copy(url, create(f"copied-{number}"), embeddings, model)
            rows.append(("COPY, three tables", f"{people:,}", f"{seconds:.1f}", f"{people / seconds:,.0f}", ""))
            archive = archive_of(embeddings)
            rows.append(run_job(client, create(f"job-{number}"), EMBEDDINGS, archive, {"model_id": model}))
        if pictures is not None:
            rows.append(run_job(client, create("pictures"), PICTURES, pictures.read_bytes(), {"face": "strongest"}))
    typer.echo(table(("enrolment", "accepted", "seconds", "rows/s", "memory growth MB"), rows))


if __name__ == "__main__":
    typer.run(main)
