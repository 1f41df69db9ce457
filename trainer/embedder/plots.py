"""Draws the plots of the calibration and of the evaluation report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from service.inference.calibration import Calibration, Interval
from trainer.embedder.calibration import Sample
from trainer.embedder.discard import FMR, Discard
from trainer.embedder.evaluation import EngineFigures
from trainer.embedder.groups import Group
from trainer.embedder.scores import PairScores, all_pairs
from trainer.plot_style import Axes, new_figure, new_row, save_figure

CURVE_POINTS = 200
MIN_PAIRS_ABOVE = 10
THUMBNAIL, GAP = 140, 16
CAPTION_HEIGHT, CAPTION_SIZE = 26, 17


def det_curve(sample: Sample, calibration: Calibration, path: Path) -> None:
    """Draws the DET curve of a calibration with the measured points and their 95 % intervals."""
    figure, axes = new_figure()
    _draw_det(axes, all_pairs(sample.embeddings, sample.names))
    points = [point for point in calibration.points if point.fmr_interval and point.fnmr_interval]
    x, y = np.array([point.fmr for point in points]), np.array([point.fnmr for point in points])
    spread_x = np.abs(np.array([point.fmr_interval for point in points]).T - x)
    spread_y = np.abs(np.array([point.fnmr_interval for point in points]).T - y)
    axes.errorbar(x, y, spread_y, spread_x, "o", markersize=3, capsize=2, label="measured, 95 % interval")
    axes.set_title(f"{calibration.people} people, {calibration.impostor_pairs:,} impostor pairs")
    axes.legend()
    save_figure(figure, path)


def report_plots(figures: EngineFigures, discard: Sequence[Discard], groups: Sequence[Group], folder: Path) -> None:
    """Draws every plot of the evaluation report."""
    verification(figures.cross, folder / "verification.png", figures.fnmr_intervals)
    cumulative_match(figures.ranks, figures.people, folder / "cmc.png")
    pair_grid(figures.hardest_genuine, folder / "hardest-genuine.png")
    pair_grid(figures.hardest_impostor, folder / "hardest-impostor.png")
    if discard:
        discard_curve(discard, FMR, folder / "discard.png")
    if rates := sorted({rate for group in groups for rate in group.fmr}):
        group_rates(groups, rates[len(rates) // 2], folder / "groups.png")


def verification(cross: PairScores, path: Path, intervals: Mapping[float, Interval] | None = None) -> None:
    """Draws ROC curve, DET curve and score histograms.

    Args:
        intervals: 95 % interval of the false non-match rate by false match rate.
    """
    figure, (roc, det, histogram) = new_row(3)
    roc.plot(*_operating_curve(cross))
    roc.set(xscale="log", xlabel="false match rate", ylabel="true accept rate", title="ROC")
    _draw_det(det, cross)
    if intervals:
        _draw_intervals(roc, det, cross, intervals)
    bins = np.linspace(-0.5, 1, 90).tolist()
    histogram.hist(cross.impostor, bins, density=True, alpha=0.6, label=f"{len(cross.impostor):,} impostor pairs")
    histogram.hist(cross.genuine, bins, density=True, alpha=0.6, label=f"{len(cross.genuine):,} genuine pairs")
    histogram.set(xlabel="comparison score", ylabel="density", title="scores")
    histogram.margins(y=0.25)  # space for the legend
    histogram.legend()
    save_figure(figure, path)


def before_and_after(before: PairScores, after: PairScores, path: Path) -> None:
    """Draws the DET curves of two embedders on the same pictures."""
    figure, axes = new_figure()
    for scores, label in ((before, "before training"), (after, "after training")):
        _draw_det(axes, scores, label)
    axes.legend()
    save_figure(figure, path)


def cumulative_match(ranks: npt.NDArray[np.intp], people: int, path: Path, longest: int = 20) -> None:
    """Draws the CMC curve: the fraction of searches with the right person among the first k."""
    figure, axes = new_figure()
    k = np.arange(1, longest + 1)
    axes.plot(k, [(ranks < rank).mean() for rank in k], "o-")
    axes.set(xlabel="rank", ylabel="identification rate", title=f"CMC: {len(ranks)} searches among {people} people")
    save_figure(figure, path)


def discard_curve(curve: Sequence[Discard], fmr: float, path: Path) -> None:
    """Draws the FNMR over the fraction of discarded pictures."""
    figure, axes = new_figure()
    axes.plot([point.fraction for point in curve], [point.fnmr for point in curve], "o-", label="by quality score")
    axes.axhline(curve[0].fnmr, linestyle=":", color="grey", label="at random")
    axes.set(xlabel="discarded pictures", ylabel=f"FNMR at FMR {fmr:g}", title="error versus discard", ylim=(0, None))
    axes.legend()
    save_figure(figure, path)


def group_rates(groups: Sequence[Group], fmr: float, path: Path) -> None:
    """Draws the measured false match rate of each group, with and without the cohort, and the calibrated rate."""
    figure, axes = new_figure(8, 6)
    shown = list(groups)[::-1]
    places = range(len(shown))
    axes.barh(places, [group.fmr[fmr] for group in shown], zorder=2, label="this model")
    if all(fmr in group.uncorrected_fmr for group in shown):
        rates = [group.uncorrected_fmr[fmr] for group in shown]
        axes.barh(places, rates, color="lightgrey", zorder=1, label="without its cohort")
    axes.set_yticks(places, [f"{group.attribute}: {group.value}" for group in shown])
    axes.axvline(fmr, color="black", linestyle=":", label="calibrated rate")
    axes.set(xscale="log", xlabel="measured false match rate within the group", title=f"calibrated for FMR {fmr:g}")
    axes.legend()
    save_figure(figure, path)


def pair_grid(pairs: Sequence[tuple[Path, Path, float]], path: Path, columns: int = 4) -> None:
    """Draws pairs of photos side by side, with their scores and the names of their folders."""
    columns = max(1, min(columns, len(pairs)))
    rows = -(-len(pairs) // columns)
    width, height = 2 * THUMBNAIL + GAP, THUMBNAIL + CAPTION_HEIGHT
    grid = Image.new("RGB", (columns * width, max(rows, 1) * height), "white")
    draw, font = ImageDraw.Draw(grid), ImageFont.load_default(CAPTION_SIZE)
    for index, (first, second, score) in enumerate(pairs):
        left, top = index % columns * width, index // columns * height
        for number, photo in enumerate((first, second)):
            with Image.open(photo) as picture:
                grid.paste(picture.convert("RGB").resize((THUMBNAIL, THUMBNAIL)), (left + number * THUMBNAIL, top))
        names = dict.fromkeys((first.parent.name, second.parent.name))
        caption = f"{score:.3f}  {' / '.join(names)}"
        while draw.textlength(caption, font) > 2 * THUMBNAIL and len(caption) > 1:
            caption = f"{caption[:-2]}…"
        draw.text((left + 2, top + THUMBNAIL + 2), caption, fill="black", font=font)
    grid.save(path)


def _draw_intervals(roc: Axes, det: Axes, cross: PairScores, intervals: Mapping[float, Interval]) -> None:
    rates = list(intervals)
    missed = np.array([1 - cross.true_accept_rate(cross.threshold_at(rate)) for rate in rates])
    low, high = np.array(list(intervals.values())).T
    spread = np.maximum(np.stack([missed - low, high - missed]), 0)
    style: dict[str, Any] = {"fmt": "o", "markersize": 3, "capsize": 3, "label": "95 % interval"}
    roc.errorbar(rates, 1 - missed, spread[::-1], **style)
    smallest = 0.5 / len(cross.genuine)
    drawn = np.maximum(missed, smallest)
    det.errorbar(rates, drawn, np.stack([drawn - np.maximum(low, smallest), np.maximum(high, drawn) - drawn]), **style)
    roc.legend()
    det.legend()


def _draw_det(axes: Axes, pairs: PairScores, label: str | None = None) -> None:
    """Draws a DET curve. Rates of no missed pair are drawn at half a pair, since a logarithmic axis has no zero."""
    fmr, tar = _operating_curve(pairs)
    smallest = 0.5 / len(pairs.genuine)
    [line] = axes.plot(fmr, np.maximum(1 - tar, smallest), label=label)
    perfect = tar == 1
    if perfect.any():
        axes.plot(fmr[perfect], np.full(perfect.sum(), smallest), "v", color=line.get_color(), markersize=3)
        axes.annotate("triangles: no pair missed", (0.02, 0.02), xycoords="axes fraction", fontsize=8)
    axes.set(xscale="log", yscale="log", xlabel="false match rate", ylabel="false non-match rate", title="DET")


def _operating_curve(pairs: PairScores) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Returns false match rates, from the lowest measurable one to 0.5, and the true accept rates at them."""
    fmr = np.geomspace(MIN_PAIRS_ABOVE / len(pairs.impostor), 0.5, CURVE_POINTS)
    thresholds = np.quantile(pairs.impostor, 1 - fmr)
    genuine = np.sort(pairs.genuine)
    return fmr, 1 - np.searchsorted(genuine, thresholds) / len(genuine)
