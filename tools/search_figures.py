"""Computes times and error rates of searches in a synthetic gallery."""

import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from rich.table import Table

from tools.synthetic_gallery import Floats, Gallery

TOP_K = 5
FPIR = 0.01


@dataclass(frozen=True)
class SearchFigures:
    """One row of the table.

    Attributes:
        build_s: seconds to build the index, without loading.
        size_mb: size of the index in MB.
        p50_ms, p95_ms: times of a search.
        rank_1: share of probes whose mate is the first candidate.
        fnir: share of probes whose mate is not among the candidates above the threshold with an FPIR of 1 %.
        recall: share of the true `TOP_K` nearest that are among the candidates.
    """

    search: str
    build_s: float
    size_mb: float
    p50_ms: float
    p95_ms: float
    rank_1: float
    fnir: float
    recall: float


@dataclass(frozen=True)
class SearchResults:
    """Seconds of each search, (searches, TOP_K) rows of candidates, best first, and their (searches, TOP_K) scores."""

    times: Sequence[float]
    candidates: npt.NDArray[np.int64]
    scores: Floats


@dataclass(frozen=True)
class Truth:
    """Results of an exact search: (searches, TOP_K) nearest people, and the threshold with the FPIR `FPIR`."""

    nearest: npt.NDArray[np.int64]
    threshold: float


def search_figures(
    search: str, build_s: float, size_mb: float, results: SearchResults, gallery: Gallery, truth: Truth
) -> SearchFigures:
    """Compares results with the mates of the gallery's probes and with the exact results."""
    is_mate = results.candidates == gallery.mates[:, None]
    accepted = is_mate & (results.scores >= truth.threshold)
    recall = statistics.fmean(
        len(set(candidates) & set(nearest)) / TOP_K
        for candidates, nearest in zip(results.candidates, truth.nearest, strict=True)
    )
    return SearchFigures(
        search=search,
        build_s=build_s,
        size_mb=size_mb,
        p50_ms=1000 * float(np.quantile(results.times, 0.5)),
        p95_ms=1000 * float(np.quantile(results.times, 0.95)),
        rank_1=float(is_mate[:, 0].mean()),
        fnir=1 - float(accepted.any(axis=1).mean()),
        recall=recall,
    )


def figures_table(rows: Sequence[SearchFigures], title: str) -> Table:
    table = Table("search", "build s", "index MB", "p50 ms", "p95 ms", "rank 1", "FNIR", f"recall@{TOP_K}", title=title)
    for row in rows:
        table.add_row(
            row.search, f"{row.build_s:.0f}", f"{row.size_mb:,.0f}", f"{row.p50_ms:.1f}", f"{row.p95_ms:.1f}",
            f"{row.rank_1:.3f}", f"{row.fnir:.3f}", f"{row.recall:.4f}",
        )  # fmt: skip
    return table
