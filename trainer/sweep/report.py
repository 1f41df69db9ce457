"""Writes the report of a sweep as Markdown with plots."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from trainer.sweep.gallery import Gallery, Query, SearchResult
from trainer.sweep.plots import Row, accuracy_plot, grid
from trainer.sweep.result import RunResult, by_accuracy, by_size, write_all
from trainer.tables import table

Order = Callable[[Sequence[RunResult]], list[RunResult]]
Measured = tuple[RunResult, list[SearchResult]]
"""The figures of an encoder, and its search results for each query."""
ORDERS: dict[str, Order] = {"accuracy": by_accuracy, "size": by_size}


def write_report(measured: Sequence[Measured], gallery: Gallery, queries: Sequence[Query], output: Path) -> None:
    """Writes `benchmark_results.json`, `accuracy.png`, `grids/` and `report.md`."""
    results = [result for result, _ in measured]
    write_all(results, output)
    accuracy_plot(results, output / "accuracy.png")
    grids = _draw_grids(measured, gallery, queries, output)
    first = results[0]
    head = (
        f"# Comparison of encoders\n\nMeasured on {first.pictures:,} pictures of {first.people:,} people in the "
        f"{first.gallery} part of the split. Latency: one crop through the bundle's graph as the service runs it.\n"
    )
    images = [f"## {file.stem}\n\n![{file.stem}](grids/{file.name})" for file in grids]
    parts = [head, _table(results), "![accuracy over embedding dimension](accuracy.png)", *images]
    (output / "report.md").write_text("\n\n".join(parts) + "\n")


def _table(results: Sequence[RunResult]) -> str:
    first = results[0]
    return table(
        (
            "encoder", f"TAR at FMR {first.fmr:.2g}", "accuracy", "rank 1", f"rank {first.top_k}", "M parameters",
            "MB", "ms", "minutes",
        ),
        (
            (
                result.name, f"{result.tar:.4f}", f"{result.accuracy:.4f}", f"{result.rank_1:.4f}",
                f"{result.top_k_rate:.4f}", f"{result.million_parameters:.1f}", f"{result.megabytes:.1f}",
                f"{result.latency_ms:.1f}", f"{result.minutes:.1f}",
            )
            for result in by_accuracy(results)
        ),
    )  # fmt: skip


def _draw_grids(measured: Sequence[Measured], gallery: Gallery, queries: Sequence[Query], output: Path) -> list[Path]:
    """Draws for every query one grid per dimension and per backbone, ordered by accuracy and by size.

    Grids of the same encoders in the same order are drawn once.
    """
    searches = {result.name: of_result for result, of_result in measured}
    groups: dict[str, list[RunResult]] = {}
    for result, _ in measured:
        groups.setdefault(f"dimension-{result.embedding_dim}", []).append(result)
        groups.setdefault(f"backbone-{result.backbone.replace(':', '-')}", []).append(result)
    files: list[Path] = []
    drawn: set[tuple[int, tuple[str, ...]]] = set()
    for (name, members), (order, ordered), number in itertools.product(
        sorted(groups.items()), ORDERS.items(), range(len(queries))
    ):
        rows: list[Row] = [(result, searches[result.name][number]) for result in ordered(members)]
        if (content := (number, tuple(result.name for result, _ in rows))) in drawn:
            continue
        drawn.add(content)
        files.append(output / "grids" / f"{name}-by-{order}-query-{number + 1}.png")
        grid(queries[number], gallery, rows, f"{name}, by {order}", files[-1])
    return files
