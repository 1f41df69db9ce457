"""The figures of one encoder of a sweep, stored as `run_result.json`."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import BaseModel

RESULT, RESULTS = "run_result.json", "benchmark_results.json"


class RunResult(BaseModel):
    """Accuracy on the gallery's people, and cost.

    Attributes:
        recipe: Hash of configuration, pictures and teacher.
        tar: True accept rate at the false match rate `fmr`.
        accuracy: 10-fold accuracy on as many impostor pairs as genuine pairs.
        rank_1: How often (0 to 1) the most similar other picture is of the same person.
        top_k_rate: How often (0 to 1) one of the `top_k` most similar pictures is of the same person.
        gallery: Part of the split.
        latency_ms: Median time of one crop through the bundle's graph, as the service runs it.
        minutes: Duration of the training.
    """

    name: str
    recipe: str
    backbone: str
    embedding_dim: int
    tar: float
    fmr: float
    accuracy: float
    rank_1: float
    top_k: int
    top_k_rate: float
    gallery: str
    people: int
    pictures: int
    million_parameters: float
    megabytes: float
    latency_ms: float
    minutes: float

    def write(self, folder: Path) -> None:
        (folder / RESULT).write_text(self.model_dump_json(indent=2) + "\n")

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Returns the result of a finished run; None if the run is not finished."""
        file = folder / RESULT
        return cls.model_validate_json(file.read_bytes()) if file.exists() else None


def write_all(results: Sequence[RunResult], folder: Path) -> None:
    """Writes `benchmark_results.json`, sorted by accuracy."""
    rows = [result.model_dump() for result in by_accuracy(results)]
    (folder / RESULTS).write_text(json.dumps(rows, indent=2) + "\n")


def by_accuracy(results: Sequence[RunResult]) -> list[RunResult]:
    """Returns the results with the highest true accept rate first."""
    return sorted(results, key=lambda result: (-result.tar, -result.rank_1))


def by_size(results: Sequence[RunResult]) -> list[RunResult]:
    """Returns the results with the smallest graph first."""
    return sorted(results, key=lambda result: result.megabytes)
