"""Draws the two plots of the gallery report."""

import importlib.util
from pathlib import Path

import numpy as np

from service.errors import StartupError
from service.recognition.decision import DecisionPolicy
from service.recognition.gallery_scores import BINS, GalleryScores
from service.recognition.operating_point import Comparisons, OperatingPoint

GROWTH = 10
"""Factor of the gallery size for which the report predicts the FPIR."""


def require_plots() -> None:
    """Checks that matplotlib is installed.

    Raises:
        StartupError: matplotlib is not installed.
    """
    if importlib.util.find_spec("matplotlib") is None:
        raise StartupError("matplotlib is not installed; run pip install '.[report]' in the repository.")


def draw(scores: GalleryScores, policy: DecisionPolicy, size: Comparisons, threshold: float, folder: Path) -> None:
    """Writes `scores.png` (mated and non-mated pairs) and `fpir.png` (FPIR against the threshold) into a folder."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5))
    centres, width = (BINS[:-1] + BINS[1:]) / 2, float(BINS[1] - BINS[0])
    axes.step(centres, scores.non_mated / max(scores.non_mated.sum(), 1) / width, label="two identities")
    if len(scores.mated):
        axes.hist(scores.mated, 80, density=True, alpha=0.5, label="one identity")
    axes.axvline(threshold, color="black", linestyle=":", label=f"threshold {threshold:.3f}")
    axes.set(xlabel="comparison score", ylabel="density", title="scores in this gallery", xlim=(-0.5, 1))
    axes.legend()
    figure.savefig(folder / "scores.png", dpi=110, bbox_inches="tight")
    plt.close(figure)

    figure, axes = plt.subplots(figsize=(8, 4.5))
    thresholds = np.linspace(0, 1, 201)
    measured = [(value, scores.fpir_at(value)) for value in thresholds]
    if line := [point for point in measured if point[1] > 0]:  # a gallery of one identity has no false positives
        axes.plot(*zip(*line, strict=True), label="measured among the compared templates")
    for growth, style, size_text in ((1, "--", "this size"), (GROWTH, ":", f"{GROWTH} times this size")):
        larger = Comparisons(size.people * growth, size.templates * growth)
        known = [(value, policy.decide(OperatingPoint("threshold", value), larger).fpir) for value in thresholds]
        if line := [(value, rate.value) for value, rate in known if rate is not None and rate.value > 0]:
            axes.plot(*zip(*line, strict=True), style, label=f"by calibration, {size_text}")
    axes.set(xlabel="threshold", ylabel="FPIR", title="FPIR of searches for people who are not enrolled")
    axes.grid(which="both", alpha=0.3)
    if axes.lines:
        axes.set_yscale("log")
        axes.legend()
    figure.savefig(folder / "fpir.png", dpi=110, bbox_inches="tight")
    plt.close(figure)
