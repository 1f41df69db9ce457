"""Accuracy against dimension, and what the encoders find for the same query, side by side."""

from collections.abc import Sequence
from pathlib import Path

import matplotlib as mpl
from PIL import Image, ImageDraw

from service.vision.image import Pixels
from trainer.sweep.gallery import Answer, Gallery, Query
from trainer.sweep.result import RunResult

mpl.use("Agg")
from matplotlib import pyplot as plt

TILE, LABEL, WORDS = 112, 190, 16
RIGHT, WRONG, UNKNOWN = (46, 160, 67), (207, 34, 46), (140, 140, 140)
Row = tuple[RunResult, Answer]


def accuracy_plot(results: Sequence[RunResult], path: Path) -> None:
    """A line for each backbone: true accept rate and rank-1 rate against the embedding's dimension."""
    figure, both = plt.subplots(1, 2, figsize=(11, 4.2))
    for axes, field, title in zip(both, ("tar", "rank_1"), ("true accept rate", "rank-1 rate"), strict=True):
        for backbone in sorted({result.backbone for result in results}):
            mine = sorted((r for r in results if r.backbone == backbone), key=lambda result: result.embedding_dim)
            axes.plot([r.embedding_dim for r in mine], [getattr(r, field) for r in mine], "o-", label=backbone)
        axes.set_xscale("log", base=2)
        axes.set(xlabel="embedding dimension", title=title)
        dims = sorted({result.embedding_dim for result in results})
        axes.set_xticks(dims, [str(dim) for dim in dims])
        axes.grid(alpha=0.3)
    both[0].set_title(f"true accept rate at FMR {results[0].fmr:.2g}")
    both[1].legend()
    figure.savefig(path, dpi=110, bbox_inches="tight")
    plt.close(figure)


def grid(query: Query, gallery: Gallery, rows: Sequence[Row], title: str, path: Path) -> None:
    """A row for each encoder: the query and its nearest pictures, framed by whether they show the same person."""
    columns = 1 + max(len(answer.rows) for _, answer in rows)
    height = TILE + WORDS
    sheet = Image.new("RGB", (LABEL + columns * (TILE + 4), WORDS + 4 + len(rows) * (height + 4)), "white")
    draw = ImageDraw.Draw(sheet)
    draw.text((2, 2), title, fill="black")
    for number, (result, answer) in enumerate(rows):
        top = WORDS + 4 + number * (height + 4)
        words = (
            f"{result.backbone}\n{result.embedding_dim} dimensions\nTAR {result.tar:.3f}, rank 1 {result.rank_1:.3f}\n"
            f"{result.megabytes:.1f} MB, {result.latency_ms:.1f} ms"
        )
        draw.multiline_text((2, top + 24), words, fill="black")
        _tile(sheet, query.canvas, (LABEL, top), None)
        draw.text((LABEL + 2, top + TILE + 2), "query", fill="black")
        for place, (row, cosine, same) in enumerate(zip(answer.rows, answer.cosines, answer.same, strict=True), 1):
            left = LABEL + place * (TILE + 4)
            _tile(sheet, gallery.canvas(row), (left, top), UNKNOWN if same is None else RIGHT if same else WRONG)
            draw.text((left + 2, top + TILE + 2), f"{cosine:.3f}", fill="black")
    path.parent.mkdir(parents=True, exist_ok=True)
    sheet.save(path)


def _tile(sheet: Image.Image, canvas: Pixels, place: tuple[int, int], frame: tuple[int, int, int] | None) -> None:
    sheet.paste(Image.fromarray(canvas).resize((TILE, TILE)), place)
    if frame is not None:
        left, top = place
        ImageDraw.Draw(sheet).rectangle((left, top, left + TILE - 1, top + TILE - 1), outline=frame, width=3)
