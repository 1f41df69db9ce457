"""The benchmark as Markdown with its pictures."""

import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

from trainer.sweep.gallery import Answer, Gallery, Query
from trainer.sweep.pictures import Row, accuracy_plot, grid
from trainer.sweep.result import RunResult, by_accuracy, by_size, write_all
from trainer.tables import table

Order = Callable[[Sequence[RunResult]], list[RunResult]]
Found = tuple[RunResult, list[Answer]]
"""What is known of an encoder, and what it finds for each query."""
ORDERS: dict[str, Order] = {"accuracy": by_accuracy, "size": by_size}


def write_report(found: Sequence[Found], gallery: Gallery, queries: Sequence[Query], output: Path) -> None:
    """`benchmark_results.json`, `accuracy.png`, `grids/` and `report.md`."""
    results = [result for result, _ in found]
    write_all(results, output)
    accuracy_plot(results, output / "accuracy.png")
    grids = _grids(found, gallery, queries, output)
    first = results[0]
    head = (
        f"# Encoders beside each other\n\nMeasured on {first.pictures:,} pictures of {first.people:,} people of the "
        f"gallery's part of the split; latency: one crop through the bundle's graph as the service runs it.\n"
    )
    images = [f"## {file.stem}\n\n![{file.stem}](grids/{file.name})" for file in grids]
    parts = [head, _table(results), "![accuracy against dimension](accuracy.png)", *images]
    (output / "report.md").write_text("\n\n".join(parts) + "\n")


def _table(results: Sequence[RunResult]) -> str:
    first = results[0]
    return table(
        (
            "encoder", f"TAR at FMR {first.fmr:.2g}", "rank 1", f"among {first.top_k}", "M parameters", "MB", "ms",
            "minutes",
        ),
        (
            (
                result.name, f"{result.tar:.4f}", f"{result.rank_1:.4f}", f"{result.top_k_rate:.4f}",
                f"{result.million_parameters:.1f}", f"{result.megabytes:.1f}", f"{result.latency_ms:.1f}",
                f"{result.minutes:.1f}",
            )
            for result in by_accuracy(results)
        ),
    )  # fmt: skip


def _grids(found: Sequence[Found], gallery: Gallery, queries: Sequence[Query], output: Path) -> list[Path]:
    """For every query: a grid of each dimension and of each backbone, ordered by accuracy and by size."""
    answers = {result.name: theirs for result, theirs in found}
    groups: dict[str, list[RunResult]] = {}
    for result, _ in found:
        groups.setdefault(f"dimension-{result.embedding_dim}", []).append(result)
        groups.setdefault(f"backbone-{result.backbone.replace(':', '-')}", []).append(result)
    files = []
    for (name, members), (order, ordered), number in itertools.product(
        sorted(groups.items()), ORDERS.items(), range(len(queries))
    ):
        rows: list[Row] = [(result, answers[result.name][number]) for result in ordered(members)]
        files.append(output / "grids" / f"{name}-by-{order}-query-{number + 1}.png")
        grid(queries[number], gallery, rows, f"{name}, by {order}", files[-1])
    return files
