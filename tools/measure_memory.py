"""`python -m tools.measure_memory`: runs a registry with its embedded PostgreSQL under a limit of memory (Linux, root).

The kernel kills a process if all of them together, this one included, need more than the limit; page cache counts too,
but is given back first. The registry enrols embeddings in a job, then answers searches with photos.
"""

import io
import os
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Annotated

import httpx
import psutil
import typer
from PIL import Image

from service.demo.photos import packaged_cast
from service.demo.server import running_registry
from tools.bench_bulk import COLLECTION, archive_of, run_job
from tools.synthetic_gallery import make_gallery
from trainer.tables import table

ROOTS = Path("/sys/fs/cgroup/memory"), Path("/sys/fs/cgroup")
"""The memory controller of cgroup v1 and v2."""
CLIENTS = 16
LARGE = (4000, 3000)


def limit_memory(megabytes: int) -> Path:
    """Moves this process into a new control group with this limit, and returns the group's folder."""
    root = next((root for root in ROOTS if (root / "cgroup.procs").exists()), None)
    if root is None or os.geteuid() != 0:
        raise typer.BadParameter("the limit needs root and a control group for memory")
    group = root / f"identity-registry-{os.getpid()}"
    group.mkdir()
    name = "memory.limit_in_bytes" if (group / "memory.limit_in_bytes").exists() else "memory.max"
    (group / name).write_text(str(megabytes * 1024**2))
    (group / "cgroup.procs").write_text(str(os.getpid()))
    return group


def kills(group: Path) -> int:
    """Returns the number of processes of the group that the kernel has killed for memory."""
    for name in ("memory.oom_control", "memory.events"):
        if (group / name).exists():
            fields = dict(line.split() for line in (group / name).read_text().splitlines())
            return int(fields["oom_kill"])
    return 0


def photos() -> list[bytes]:
    """Returns a photo of a person as it is, and enlarged to 12 megapixels."""
    file = packaged_cast().people[0].enrolled[0]
    large = io.BytesIO()
    with Image.open(file) as picture:
        picture.convert("RGB").resize(LARGE).save(large, "JPEG", quality=90)
    return [file.read_bytes(), large.getvalue()]


def anonymous_mb(processes: list[psutil.Process]) -> float:
    """Returns the unshared memory of processes in MB."""
    return sum(process.memory_full_info().uss for process in processes if process.is_running()) / 1e6


def search(client: httpx.Client, seconds: float) -> Counter[int]:
    """Searches with 16 clients; returns the number of responses by status."""
    statuses: Counter[int] = Counter()
    lock, files, end = threading.Lock(), photos(), time.monotonic() + seconds

    def run(number: int) -> None:
        while time.monotonic() < end:
            file = files[number % len(files)]
            response = client.post("/search", params={"collection": COLLECTION}, files={"image": file})
            with lock:
                statuses[response.status_code] += 1

    with ThreadPoolExecutor(CLIENTS) as pool:
        list(pool.map(run, range(CLIENTS)))
    return statuses


def main(
    people: Annotated[int, typer.Option(help="Number of identities.")] = 10_000,
    limit_mb: Annotated[int, typer.Option(help="Limit in MB for all processes together.")] = 2048,
    seconds: Annotated[float, typer.Option(help="Duration of the searches.")] = 30,
) -> None:
    """Print the memory after the enrolment and after the searches, and what failed."""
    archive = archive_of(make_gallery(people, 128, 2, 0).people)
    group = limit_memory(limit_mb)
    rows = []
    with running_registry() as client:
        model = client.get("/models").json()["models"][0]
        client.post("/collections", json={"name": COLLECTION, "quality": "off"}).raise_for_status()
        _, job, _ = run_job(client, "/jobs/embedding-enrolments", archive, {"model_id": model["id"]})
        processes = psutil.Process().children(recursive=True)
        rows.append(("identities enrolled", f"{job['counts']['accepted']:,}", f"{anonymous_mb(processes):,.0f}"))
        answers = search(client, seconds)
        processes = psutil.Process().children(recursive=True)
        counts = ", ".join(f"{status}: {count:,}" for status, count in sorted(answers.items()))
        rows.append((f"searches of {CLIENTS} clients, by status", counts, f"{anonymous_mb(processes):,.0f}"))
    rows.append(("processes killed by the kernel", str(kills(group)), ""))
    typer.echo(table((f"limit {limit_mb:,} MB", "result", "MB of the service and PostgreSQL"), rows))


if __name__ == "__main__":
    typer.run(main)
