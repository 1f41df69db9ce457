"""Writes the process's metrics in Prometheus' text format."""

import os
from collections.abc import Iterator
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, Metric, generate_latest, multiprocess

from service.telemetry.metrics import MULTIPROCESS_VARIABLE

OF_ALL_COLLECTIONS = frozenset(
    {"registry_gallery_rows", "registry_decisions", "registry_scores", "registry_job_rows", "registry_job_tasks"}
)
"""Metrics that add up data of all collections. A key that is restricted to one collection must not see them."""


class _Restricted(CollectorRegistry):
    """The metrics of another registry without those of all collections."""

    def __init__(self, registry: CollectorRegistry) -> None:
        super().__init__()
        self._registry = registry

    def collect(self) -> Iterator[Metric]:
        return (family for family in self._registry.collect() if family.name not in OF_ALL_COLLECTIONS)


def render(all_collections: bool = True) -> tuple[bytes, str]:
    """Returns metrics in Prometheus' text format, and the content type of that format.

    If the environment variable `MULTIPROCESS_VARIABLE` is set, the metrics of all processes that share its folder are
    added up.

    Args:
        all_collections: include metrics that add up data of all collections.
    """
    registry = REGISTRY
    if folder := os.environ.get(MULTIPROCESS_VARIABLE):
        _drop_live_gauges_of_ended_processes(Path(folder))
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry if all_collections else _Restricted(registry)), CONTENT_TYPE_LATEST


def _drop_live_gauges_of_ended_processes(folder: Path) -> None:
    """Deletes the files of gauges that count living processes only. Counters of ended processes are kept."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
