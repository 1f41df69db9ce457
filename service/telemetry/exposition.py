"""Writes the process's metrics in Prometheus' text format."""

import os
from pathlib import Path

from prometheus_client import CONTENT_TYPE_LATEST, REGISTRY, CollectorRegistry, generate_latest, multiprocess

from service.telemetry.metrics import MULTIPROCESS_VARIABLE


def render() -> tuple[bytes, str]:
    """Returns all metrics in Prometheus' text format, and the content type of that format.

    If the environment variable `MULTIPROCESS_VARIABLE` is set, the metrics of all processes that share its folder are
    added up.
    """
    registry = REGISTRY
    if folder := os.environ.get(MULTIPROCESS_VARIABLE):
        _drop_live_gauges_of_ended_processes(Path(folder))
        registry = CollectorRegistry()
        multiprocess.MultiProcessCollector(registry)  # type: ignore[no-untyped-call]
    return generate_latest(registry), CONTENT_TYPE_LATEST


def _drop_live_gauges_of_ended_processes(folder: Path) -> None:
    """Deletes the files of gauges that count living processes only. Counters of ended processes are kept."""
    for file in folder.glob("gauge_live*_*.db"):
        pid = int(file.stem.rpartition("_")[2])
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            multiprocess.mark_process_dead(pid)  # type: ignore[no-untyped-call]
