"""The benchmark as Markdown with its pictures."""

from collections.abc import Callable, Sequence
from pathlib import Path

from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions
from trainer.sweep.gallery import Gallery, Query
from trainer.sweep.pictures import Row, accuracy_plot, grid
from trainer.sweep.result import RunResult, by_accuracy, by_size, write_all
from trainer.tables import table

Order = Callable[[Sequence[RunResult]], list[RunResult]]
ORDERS: dict[str, Order] = {"accuracy": by_accuracy, "size": by_size}


def write_report(
    results: Sequence[RunResult], gallery: Gallery, queries: Sequence[Query], top_k: int, output: Path
) -> None:
    """`benchmark_results.json`, `accuracy.png`, `grids/` and `report.md`."""
    write_all(results, output)
    accuracy_plot(results, output / "accuracy.png")
    grids = _grids(results, gallery, queries, top_k, output)
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


def _grids(
    results: Sequence[RunResult], gallery: Gallery, queries: Sequence[Query], top_k: int, output: Path
) -> list[Path]:
    """For every query: a grid of each dimension and of each backbone, ordered by accuracy and by size."""
    found = _search_all(results, gallery, queries, top_k, output)
    groups = {f"dimension-{dim}": [r for r in results if r.embedding_dim == dim] for dim in _dims(results)}
    for backbone in sorted({result.backbone for result in results}):
        groups[f"backbone-{backbone.replace(':', '-')}"] = [r for r in results if r.backbone == backbone]
    files = []
    for name, members in groups.items():
        for order, ordered in ORDERS.items():
            for number, query in enumerate(queries):
                rows: list[Row] = [(result, found[result.name][number]) for result in ordered(members)]
                file = output / "grids" / f"{name}-by-{order}-query-{number + 1}.png"
                grid(query, gallery, rows, f"{name}, by {order}", file)
                files.append(file)
    return files


def _search_all(
    results: Sequence[RunResult], gallery: Gallery, queries: Sequence[Query], top_k: int, output: Path
) -> dict[str, list]:  # type: ignore[type-arg]
    found = {}
    for result in results:
        embedder = FaceEmbedder(output / result.name / "bundle", RuntimeOptions())
        embeddings = gallery.embed(embedder)
        found[result.name] = [gallery.search(query, embedder, embeddings, top_k) for query in queries]
    return found


def _dims(results: Sequence[RunResult]) -> list[int]:
    return sorted({result.embedding_dim for result in results})
