"""Plots accuracy over embedding dimension, and draws the search results of all encoders for one query."""

from collections.abc import Sequence
from pathlib import Path

from PIL import Image, ImageDraw

from service.vision.image import Pixels
from trainer.plot_style import new_row, save_figure
from trainer.sweep.gallery import Gallery, Query, SearchResult
from trainer.sweep.result import RunResult

TILE, LABEL_WIDTH, TEXT_HEIGHT, GAP = 112, 190, 16, 4
RIGHT, WRONG, UNKNOWN = (46, 160, 67), (207, 34, 46), (140, 140, 140)
Row = tuple[RunResult, SearchResult]


def accuracy_plot(results: Sequence[RunResult], path: Path) -> None:
    """Plots true accept rate and rank-1 rate over the embedding dimension, one line per backbone."""
    figure, both = new_row(2)
    titles = (f"true accept rate at FMR {results[0].fmr:.2g}", "rank-1 rate")
    dims = sorted({result.embedding_dim for result in results})
    for axes, field, title in zip(both, ("tar", "rank_1"), titles, strict=True):
        for backbone in sorted({result.backbone for result in results}):
            line = sorted((r for r in results if r.backbone == backbone), key=lambda result: result.embedding_dim)
            axes.plot([r.embedding_dim for r in line], [getattr(r, field) for r in line], "o-", label=backbone)
        axes.set_xscale("log", base=2)
        axes.set(xlabel="embedding dimension", title=title)
        axes.set_xticks(dims, [str(dim) for dim in dims])
    both[1].legend()
    save_figure(figure, path)


def grid(query: Query, gallery: Gallery, rows: Sequence[Row], title: str, path: Path) -> None:
    """Draws one row per encoder: the query and its search results, framed green (same person) or red."""
    columns = 1 + max(len(result.rows) for _, result in rows)
    row_height = TILE + TEXT_HEIGHT + GAP
    top = TEXT_HEIGHT + GAP
    sheet = Image.new("RGB", (LABEL_WIDTH + columns * (TILE + GAP), top + len(rows) * row_height), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((2, 2), title, fill="black")
    for run, result in rows:
        draw.multiline_text((2, top + 24), _label(run), fill="black")
        _draw_tile(draw, sheet, query.crop, (LABEL_WIDTH, top), None, "query")
        for place, (row, cosine, same) in enumerate(zip(result.rows, result.cosines, result.same, strict=True), 1):
            frame = UNKNOWN if same is None else RIGHT if same else WRONG
            position = (LABEL_WIDTH + place * (TILE + GAP), top)
            _draw_tile(draw, sheet, gallery.crop(row), position, frame, f"{cosine:.3f}")
        top += row_height
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _label(run: RunResult) -> str:
    return (
        f"{run.backbone}\n{run.embedding_dim} dimensions\nTAR {run.tar:.3f}, rank 1 {run.rank_1:.3f}\n"
        f"{run.megabytes:.1f} MB, {run.latency_ms:.1f} ms"
    )


def _draw_tile(
    draw: ImageDraw.ImageDraw,
    sheet: Image.Image,
    crop: Pixels,
    position: tuple[int, int],
    frame: tuple[int, int, int] | None,
    text: str,
) -> None:
    left, top = position
    sheet.paste(Image.fromarray(crop).resize((TILE, TILE)), position)
    if frame is not None:
        draw.rectangle((left, top, left + TILE - 1, top + TILE - 1), outline=frame, width=3)
    draw.text((left + 2, top + TILE + 2), text, fill="black")
