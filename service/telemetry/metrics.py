"""What a process counts about itself, for Prometheus. Numbers only: nothing here can tell one person from another."""

import os
from pathlib import Path

from fastapi import Response
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    generate_latest,
    multiprocess,
)

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Names the folder through which several processes behind one port are counted together."""
SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30)

REQUESTS = Histogram("registry_request_seconds", "Time to answer a request", ("operation", "status"), buckets=SECONDS)
DECISIONS = Counter("registry_decisions", "Comparisons that were decided", ("operation", "match"))
STAGES = Histogram("registry_stage_seconds", "Time of one batch in one stage", ("stage",), buckets=SECONDS)
BATCHES = Histogram("registry_batch_pictures", "Pictures that were run together", buckets=(1, 2, 4, 8, 16, 32))
WAITING = Gauge("registry_waiting_pictures", "Pictures in the queue", multiprocess_mode="livesum")
REFUSED = Counter("registry_refused_pictures", "Pictures that found the queue full")
# By label, so that a process which asks no workers doesn't report that it has none.
WORKERS = Gauge("registry_workers_ready", "Workers that this API may ask", ("behind",), multiprocess_mode="livemin")
WORKERS_LOST = Counter("registry_workers_lost", "Requests to a worker that broke off or were refused as foreign")
SCORES = Histogram(
    "registry_scores",
    "Cosine similarity of compared pairs, and of probes to the best candidate",
    ("operation",),
    buckets=[-0.1, 0, 0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1],
)
GALLERY = Gauge(
    "registry_gallery_rows", "Rows of a table, as PostgreSQL estimates", ("table",), multiprocess_mode="max"
)
TASKS = Gauge("registry_job_tasks", "Tasks in the job queue", ("state",), multiprocess_mode="max")
POOL = Gauge("registry_pool_connections", "Connections to the database", ("state",), multiprocess_mode="livesum")
JOB_ROWS = Counter("registry_job_rows", "Rows of jobs that are done", ("kind", "status"))


def answer() -> Response:
    """All figures in Prometheus' text format."""
    registry = REGISTRY
    if folder := os.environ.get(MULTIPROCESS_VARIABLE):
        _forget_the_dead(Path(folder))
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return Response(generate_latest(registry), media_type=CONTENT_TYPE_LATEST)


def _forget_the_dead(folder: Path) -> None:
    """What a process that is gone said of its present is no longer so; what it counted stays."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
