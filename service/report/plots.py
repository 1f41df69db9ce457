"""The two pictures of the gallery report."""

import importlib.util
from pathlib import Path

import numpy as np

from service.errors import StartupError
from service.recognition.decision import Comparisons, DecisionPolicy, OperatingPoint
from service.report.scores import BINS, GalleryScores

GROWTH = 10


def require_plots() -> None:
    """Raises StartupError where matplotlib is not installed."""
    if importlib.util.find_spec("matplotlib") is None:
        raise StartupError("the report draws with matplotlib: pip install 'identity-registry[report]'")


def draw(scores: GalleryScores, policy: DecisionPolicy, size: Comparisons, threshold: float, folder: Path) -> None:
    """`scores.png`: mates and non-mates; `fpir.png`: false positives against the threshold."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(figsize=(8, 4.5))
    centres, width = (BINS[:-1] + BINS[1:]) / 2, float(BINS[1] - BINS[0])
    axes.step(centres, scores.non_mates / max(scores.non_mates.sum(), 1) / width, label="two people")
    if len(scores.mates):
        axes.hist(scores.mates, 80, density=True, alpha=0.5, label="one person")
    axes.axvline(threshold, color="black", linestyle=":", label=f"threshold {threshold:.3f}")
    axes.set(xlabel="comparison score", ylabel="density", title="scores in this gallery", xlim=(-0.5, 1))
    axes.legend()
    figure.savefig(folder / "scores.png", dpi=110, bbox_inches="tight")
    plt.close(figure)

    figure, axes = plt.subplots(figsize=(8, 4.5))
    thresholds = np.linspace(0, 1, 201)
    measured = [(value, scores.fpir_at(value)) for value in thresholds]
    if line := [point for point in measured if point[1] > 0]:  # a gallery of one person has no false positives
        axes.plot(*zip(*line, strict=True), label="measured among the compared templates")
    for growth, style, words in ((1, "--", "this size"), (GROWTH, ":", f"{GROWTH} times this size")):
        larger = Comparisons(size.people * growth, size.templates * growth)
        known = [(value, policy.decide(OperatingPoint("threshold", value), larger).fpir) for value in thresholds]
        if line := [(value, rate.value) for value, rate in known if rate is not None and rate.value > 0]:
            axes.plot(*zip(*line, strict=True), style, label=f"by calibration, {words}")
    axes.set(xlabel="threshold", ylabel="FPIR", title="searches by strangers that find somebody")
    axes.grid(which="both", alpha=0.3)
    if axes.enrolment_locks:
        axes.set_yscale("log")
        axes.legend()
    figure.savefig(folder / "fpir.png", dpi=110, bbox_inches="tight")
    plt.close(figure)
