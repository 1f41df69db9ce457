"""`python -m tools.bench_bulk`: measures bulk enrolment of embeddings beside a bare COPY of the same rows.

The job includes upload, planning, audit entries and results; COPY only writes the three tables. With `--pictures` it
also enrols an archive of `<person>/<picture>.jpg`. The memory is that of the process that serves the API and runs jobs.
"""

import asyncio
import io
import time
import uuid
from pathlib import Path
from typing import Annotated, Any

import httpx
import numpy as np
import psutil
import typer

from service.demo.server import running_registry
from service.embedded_postgres.lease import EmbeddedPostgres
from service.gallery.people import collections
from service.gallery.storage import schema
from service.gallery.storage.database import Database
from tools.bulk_load import MODEL, copy_people
from tools.folders import database_folder
from tools.synthetic_gallery import Floats, make_gallery
from trainer.tables import table

COLLECTION = "bulk"
ZIP = {"content-type": "application/zip"}


def bare_copy(people: Floats) -> float:
    """Returns the seconds of a COPY into the tables of identities, templates and centroids."""
    with database_folder() as folder, EmbeddedPostgres(folder / "postgres") as url:
        schema.upgrade(url)

        async def prepare() -> collections.Collection:
            database = Database(url)
            async with database.transaction() as connection:
                await collections.add_model(connection, MODEL, people.shape[1], "0" * 64)
                created = await collections.create(connection, COLLECTION, MODEL)
            await database.close()
            return created

        collection = asyncio.run(prepare())
        return copy_people(url, collection, [uuid.uuid4() for _ in people], people, "COPY")


def archive_of(people: Floats) -> bytes:
    file = io.BytesIO()
    np.savez(file, embeddings=people, external_id=np.array([f"person-{number}" for number in range(len(people))]))
    return file.getvalue()


def run_job(client: httpx.Client, path: str, body: bytes, query: dict[str, Any]) -> tuple[float, dict[str, Any], float]:
    """Returns the seconds until the job is done, the job, and the growth of the service's memory in MB."""
    service = next(child for child in psutil.Process().children() if "serve" in child.cmdline())
    before = highest = service.memory_info().rss
    started = time.perf_counter()
    response = client.post(path, params={"collection": COLLECTION} | query, content=body, headers=ZIP)
    response.raise_for_status()
    while (job := client.get(response.headers["location"]).json())["state"] in ("waiting", "running"):
        highest = max(highest, service.memory_info().rss)
        time.sleep(1)
    return time.perf_counter() - started, job, (highest - before) / 1e6


def main(
    people: Annotated[int, typer.Option(min=1_000, help="Number of embeddings.")] = 100_000,
    pictures: Annotated[Path | None, typer.Option(help="Zip archive of <person>/<picture>.jpg.")] = None,
) -> None:
    """Print the rates of a bare COPY and of bulk enrolments."""
    embeddings = make_gallery(people, 128, 2, 0).people
    copy_s = bare_copy(embeddings)
    rows = [("COPY, three tables", f"{people:,}", f"{copy_s:.1f}", f"{people / copy_s:,.0f}", "")]
    with running_registry() as client:
        model = client.get("/models").json()["models"][0]
        client.post("/collections", json={"name": COLLECTION, "quality": "off"}).raise_for_status()
        jobs = [("embeddings", "/jobs/embedding-enrolments", archive_of(embeddings), {"model_id": model["id"]})]
        if pictures is not None:
            jobs.append(("pictures", "/jobs/enrolments", pictures.read_bytes(), {"face": "strongest"}))
        for name, path, body, query in jobs:
            seconds, job, growth = run_job(client, path, body, query)
            accepted = job["counts"]["accepted"]
            rate = f"{job['total'] / seconds:,.0f}"
            rows.append((f"job, {name}", f"{accepted:,} of {job['total']:,}", f"{seconds:.1f}", rate, f"{growth:.0f}"))
    typer.echo(table(("enrolment", "accepted", "seconds", "rows/s", "memory growth MB"), rows))


if __name__ == "__main__":
    typer.run(main)
