"""Metrics of one process, for Prometheus. They hold numbers only, and no label identifies a person."""

from prometheus_client import Counter, Gauge, Histogram

MULTIPROCESS_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
"""Environment variable with the folder in which processes that share a port collect their metrics."""
SECONDS = (0.005, 0.01, 0.02, 0.03, 0.05, 0.075, 0.1, 0.15, 0.25, 0.5, 1, 2.5, 5, 10, 30)

REQUESTS = Histogram(
    "registry_request_seconds", "Time from a request to its response", ("operation", "status"), buckets=SECONDS
)
DECISIONS = Counter("registry_decisions", "Decisions of verifications and searches", ("operation", "match"))
STAGES = Histogram("registry_stage_seconds", "Time of one batch in one inference stage", ("stage",), buckets=SECONDS)
BATCHES = Histogram("registry_batch_pictures", "Pictures in one inference batch", buckets=(1, 2, 4, 8, 16, 32))
WAITING = Gauge("registry_waiting_pictures", "Pictures in the inference queue", multiprocess_mode="livesum")
REFUSED = Counter("registry_refused_pictures", "Pictures refused because the inference queue was full")
# A label, and not a plain gauge: a process without workers must not report that zero workers are ready.
WORKERS = Gauge(
    "registry_workers_ready",
    "Inference workers that are ready, by their URLs",
    ("behind",),
    multiprocess_mode="livemin",
)
WORKERS_LOST = Counter(
    "registry_workers_lost", "Requests to a worker that failed or to which a worker with other models responded"
)
SCORES = Histogram(
    "registry_scores",
    "Cosine similarity of verified pairs, and of probes to the best candidate",
    ("operation",),
    buckets=[-0.1, 0, 0.1, 0.2, 0.25, 0.3, 0.35, 0.4, 0.45, 0.5, 0.6, 0.7, 0.8, 0.9, 1],
)
GALLERY = Gauge(
    "registry_gallery_rows", "Rows of a table, estimated by PostgreSQL", ("table",), multiprocess_mode="max"
)
MEMORY_INDEX_IDENTITIES = Gauge(
    "registry_memory_index_identities", "Identities in the indexes in memory", multiprocess_mode="livesum"
)
MEMORY_INDEX_BYTES = Gauge(
    "registry_memory_index_bytes", "Memory of the indexes in memory", multiprocess_mode="livesum"
)
MEMORY_INDEX_AGE = Gauge(
    "registry_memory_index_age_seconds",
    "Age of the oldest snapshot of an index before it is refreshed; searches read later changes from the database",
    multiprocess_mode="livemax",
)
MEMORY_INDEX_LOADS = Counter("registry_memory_index_loads", "Indexes loaded into memory")
MEMORY_INDEX_EVICTIONS = Counter(
    "registry_memory_index_evictions", "Indexes removed from memory because another collection needed it"
)
TASKS = Gauge("registry_job_tasks", "Tasks in the job queue", ("state",), multiprocess_mode="max")
POOL = Gauge("registry_pool_connections", "Connections to the database", ("state",), multiprocess_mode="livesum")
JOB_ROWS = Counter("registry_job_rows", "Rows that jobs have processed", ("kind", "status"))
