"""The pictures of the calibration and of the evaluation report."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from service.inference.bundle import Calibration
from trainer.embedder.calibration import Sample
from trainer.embedder.discard import FMR, Discard
from trainer.embedder.evaluation import EngineFigures
from trainer.embedder.groups import Group
from trainer.embedder.scores import PairScores, all_pairs

mpl.use("Agg")
from matplotlib import pyplot as plt

if TYPE_CHECKING:
    from matplotlib.axes import Axes

CURVE_POINTS = 200
THUMBNAIL = 112
WORDS = 16


def det_curve(sample: Sample, calibration: Calibration, path: Path) -> None:
    """The calibration's DET curve with the measured points and their intervals, as SVG."""
    figure, axes = plt.subplots(figsize=(6, 4.5))
    _det(axes, all_pairs(sample.embeddings, sample.names), 10 / calibration.impostor_pairs)
    points = [point for point in calibration.points if point.fmr_interval and point.fnmr_interval]
    x, y = np.array([point.fmr for point in points]), np.array([point.fnmr for point in points])
    spread_x = np.abs(np.array([point.fmr_interval for point in points]).T - x)
    spread_y = np.abs(np.array([point.fnmr_interval for point in points]).T - y)
    axes.errorbar(x, y, spread_y, spread_x, "o", markersize=3, capsize=2, label="measured, 95 % interval")
    axes.set_title(f"{calibration.people} people, {calibration.impostor_pairs:,} impostor pairs")
    axes.legend()
    # Nothing in the file tells when it was drawn: the same numbers give the same bytes.
    with mpl.rc_context({"svg.hashsalt": "identity-registry"}):
        figure.savefig(path, bbox_inches="tight", metadata={"Date": None})
    plt.close(figure)


def report_pictures(figures: EngineFigures, discard: Sequence[Discard], groups: Sequence[Group], folder: Path) -> None:
    """Every picture that the evaluation report shows."""
    verification(figures.cross, folder / "verification.png")
    cumulative_match(figures.ranks, figures.people, folder / "cmc.png")
    pair_grid(figures.hardest_genuine, folder / "hardest-genuine.png")
    pair_grid(figures.hardest_impostor, folder / "hardest-impostor.png")
    if discard:
        discard_curve(discard, FMR, folder / "discard.png")
    if shown := sorted({rate for group in groups for rate in group.fmr}):
        group_rates(groups, shown[len(shown) // 2], folder / "groups.png")


def verification(cross: PairScores, path: Path) -> None:
    """ROC and DET curves and score histograms."""
    _, (roc, det, histogram) = plt.subplots(1, 3, figsize=(16, 4.5))
    fmr, tar = _operating_curve(cross, 10 / len(cross.impostor))
    roc.plot(fmr, tar)
    roc.set(xscale="log", xlabel="false match rate", ylabel="true accept rate", title="ROC")
    roc.grid(which="both", alpha=0.3)
    _det(det, cross, 10 / len(cross.impostor))
    bins = np.linspace(-0.5, 1, 90).tolist()
    histogram.hist(cross.impostor, bins, density=True, alpha=0.6, label=f"{len(cross.impostor):,} impostor pairs")
    histogram.hist(cross.genuine, bins, density=True, alpha=0.6, label=f"{len(cross.genuine):,} genuine pairs")
    histogram.set(xlabel="comparison score", title="scores")
    histogram.margins(y=0.25)  # room for the legend
    histogram.legend()
    _save(path)


def cumulative_match(ranks: npt.NDArray[np.intp], people: int, path: Path, longest: int = 20) -> None:
    """CMC: the share of searches whose person is among the first k."""
    _, axes = plt.subplots(figsize=(6, 4.5))
    k = np.arange(1, longest + 1)
    axes.plot(k, [(ranks < rank).mean() for rank in k], "o-")
    axes.set(xlabel="rank", ylabel="identification rate", title=f"CMC: {len(ranks)} searches among {people} people")
    axes.grid(alpha=0.3)
    _save(path)


def discard_curve(curve: Sequence[Discard], fmr: float, path: Path) -> None:
    """FNMR as more of the worst pictures are discarded."""
    _, axes = plt.subplots(figsize=(6, 4.5))
    axes.plot([point.fraction for point in curve], [point.fnmr for point in curve], "o-", label="by quality score")
    axes.axhline(curve[0].fnmr, linestyle=":", color="grey", label="at random")
    axes.set(xlabel="pictures discarded", ylabel=f"FNMR at FMR {fmr:g}", title="error versus discard", ylim=(0, None))
    axes.grid(alpha=0.3)
    axes.legend()
    _save(path)


def group_rates(groups: Sequence[Group], fmr: float, path: Path) -> None:
    """Measured false match rates by group, beside the asked one."""
    _, axes = plt.subplots(figsize=(8, 6))
    names = [f"{group.attribute}: {group.value}" for group in groups][::-1]
    axes.barh(names, [group.fmr[fmr] for group in groups][::-1])
    axes.axvline(fmr, color="black", linestyle=":", label="asked")
    axes.set(xscale="log", xlabel="measured false match rate within the group", title=f"asked for {fmr:g}")
    axes.legend()
    _save(path)


def pair_grid(pairs: Sequence[tuple[Path, Path, float]], path: Path, columns: int = 6) -> None:
    """Pairs of photos with their scores, two photos side by side."""
    rows = -(-len(pairs) // columns)
    sheet = Image.new("RGB", (columns * (2 * THUMBNAIL + WORDS), rows * (THUMBNAIL + WORDS)), "white")
    draw = ImageDraw.Draw(sheet)
    for index, (first, second, score) in enumerate(pairs):
        left, top = index % columns * (2 * THUMBNAIL + WORDS), index // columns * (THUMBNAIL + WORDS)
        for number, photo in enumerate((first, second)):
            with Image.open(photo) as picture:
                sheet.paste(picture.convert("RGB").resize((THUMBNAIL, THUMBNAIL)), (left + number * THUMBNAIL, top))
        draw.text((left + 2, top + THUMBNAIL + 2), f"{score:.3f}", fill="black")
    sheet.save(path)


def _det(axes: "Axes", pairs: PairScores, lowest: float) -> None:
    fmr, tar = _operating_curve(pairs, lowest)
    axes.plot(fmr, 1 - tar)
    axes.set(xscale="log", yscale="log", xlabel="false match rate", ylabel="false non-match rate", title="DET")
    axes.grid(which="both", alpha=0.3)


def _operating_curve(pairs: PairScores, lowest: float) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    fmr = np.geomspace(lowest, 0.5, CURVE_POINTS)
    thresholds = np.quantile(pairs.impostor, 1 - fmr)
    genuine = np.sort(pairs.genuine)
    return fmr, 1 - np.searchsorted(genuine, thresholds) / len(genuine)


def _save(path: Path) -> None:
    plt.savefig(path, dpi=110, bbox_inches="tight")
    plt.close()
