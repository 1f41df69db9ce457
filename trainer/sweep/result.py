"""What is known of one encoder of the benchmark, as its `run_result.json` holds it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Self

from pydantic import BaseModel

RESULT, RESULTS = "run_result.json", "benchmark_results.json"


class RunResult(BaseModel):
    """Accuracy on the gallery's people, and what the encoder costs.

    Attributes:
        recipe: a hash of configuration, pictures and teacher.
        tar: true accept rate at `fmr`.
        rank_1: how often the nearest other picture is of the same person.
        top_k_rate: how often the same person is among the nearest `top_k`.
        latency_ms: median of one crop through the bundle's graph, as the service runs it.
        minutes: of training.
    """

    name: str
    recipe: str
    backbone: str
    embedding_dim: int
    tar: float
    fmr: float
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
        """The result of a finished run, or None."""
        file = folder / RESULT
        return cls.model_validate_json(file.read_bytes()) if file.exists() else None


def write_all(results: Sequence[RunResult], folder: Path) -> None:
    """`benchmark_results.json`, the most accurate encoder first."""
    rows = [result.model_dump() for result in by_accuracy(results)]
    (folder / RESULTS).write_text(json.dumps(rows, indent=2) + "\n")


def by_accuracy(results: Sequence[RunResult]) -> list[RunResult]:
    return sorted(results, key=lambda result: (-result.tar, -result.rank_1))


def by_size(results: Sequence[RunResult]) -> list[RunResult]:
    return sorted(results, key=lambda result: result.megabytes)
