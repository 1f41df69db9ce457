"""Writes the report of a run as one HTML file."""

import shutil
from collections.abc import Sequence
from pathlib import Path

from trainer import html_report
from trainer.embedder import plots
from trainer.embedder.bootstrap import fnmr_intervals
from trainer.embedder.calibration import MIN_PAIRS_ABOVE
from trainer.embedder.evaluation import hardest_pairs
from trainer.embedder.report import calibration_tables
from trainer.embedder.scores import all_pairs
from trainer.embedder.training_log import plot_curves, read_curves
from trainer.pictures import read_picture
from trainer.run import decisions
from trainer.run.calibrating import CheckedRate
from trainer.run.comparison import FMRS, Comparison
from trainer.run.result import Result
from trainer.sheets import save, sheet
from trainer.tables import table

MAX_ROWS, MAX_TILES, TILE = 20, 24, 180
VALIDATION = {"tar": "TAR", "rank_1": "rank 1"}


def write_report(result: Result, folder: Path) -> Path:
    """Writes `report.html` and returns its path."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    parts = [
        f"# {result.name}",
        f"**{result.outcome.summary}**\n\n```\n{result.serve}\n```",
        result.outcome.alternative,
        "## Decisions\n\n" + decisions.describe(result.outcome.chosen.calibrated.calibration, result.templates),
        _data(result),
        _training(result, folder),
        _comparison(result, folder),
        _calibration(result, folder),
        _hardest(result, folder),
        _problems(result, folder),
    ]
    return html_report.write("\n\n".join(part for part in parts if part) + "\n", result.name, folder)


def describe_comparison(comparison: Comparison) -> str:
    """Returns a sentence that states whether training helped."""
    rate = comparison.decisive
    low, high = rate.interval
    figures = (
        f"TAR at FMR {rate.fmr:g} on {comparison.people} held-out people: {rate.before:.4f} before and "
        f"{rate.after:.4f} after training (difference {rate.after - rate.before:+.4f}, 95 % interval {low:+.4f} to "
        f"{high:+.4f})"
    )
    if comparison.helped:
        return f"Training helped. {figures}."
    if comparison.harmed:
        return f"Training made the model worse. {figures}."
    return f"Training did not help measurably. {figures}."


def _data(result: Result) -> str:
    plan = result.plan
    parts = [(words, len(plan.people_of(part)), plan.photos_of(part)) for part, words in plan.purposes.items()]
    rows = [row for row in parts if row[1]]
    failures = len(result.preparation.failures)
    return (
        f"## Data\n\n{plan.photos:,} photos of {len(plan.counts):,} people have an aligned face; {failures:,} photos "
        f"have none.\n\n{table(('people who', 'people', 'photos'), rows)}"
    )


def _training(result: Result, folder: Path) -> str:
    if (training := result.outcome.training) is None:
        return f"## Training\n\nNothing was trained: {result.plan.reason}."
    plot_curves(read_curves(training.folder), VALIDATION, folder / "training.png")
    return "## Training\n\n![loss and validation](training.png)"


def _comparison(result: Result, folder: Path) -> str:
    if result.outcome.training is None:
        return ""
    comparison = result.outcome.training.comparison
    rows = [
        (f"{r.fmr:g}", f"{r.before:.4f}", f"{r.after:.4f}", f"{r.after - r.before:+.4f}", _interval(r.interval))
        for r in comparison.rates
    ]
    plots.before_and_after(comparison.before, comparison.after, folder / "comparison.png")
    return "\n\n".join(
        [
            "## Before and after training",
            describe_comparison(comparison),
            table(("FMR", "TAR before", "TAR after", "difference", "95 % interval"), rows),
            f"Rank 1 among {comparison.pictures:,} pictures: {comparison.rank_1[0]:.4f} before, "
            f"{comparison.rank_1[1]:.4f} after. Area under the ROC curve: {comparison.before.area_under_roc:.5f} "
            f"before, {comparison.after.area_under_roc:.5f} after.",
            "![DET curves before and after](comparison.png)",
        ]
    )


def _calibration(result: Result, folder: Path) -> str:
    chosen = result.outcome.chosen
    source = "measured on your people" if chosen.calibrated.own else "as shipped, measured on other people"
    sample = chosen.measured.sample
    pairs = all_pairs(sample.embeddings, sample.names)
    thresholds = {rate: pairs.threshold_at(rate) for rate in FMRS if rate * len(pairs.impostor) >= MIN_PAIRS_ABOVE}
    intervals = fnmr_intervals(sample.embeddings, sample.names, thresholds)
    plots.verification(pairs, folder / "verification.png", intervals)
    parts = ["## Calibration", f"Of the chosen model, {source}:", calibration_tables(chosen.calibrated.calibration)]
    if checked := result.outcome.shipped.calibrated.checked:
        parts += [
            "The table that the shipped bundle contains, checked on your people; a rate holds if at most 1.5 times the "
            "requested one was measured and chance explains the difference:",
            _checked(checked),
        ]
    return "\n\n".join([*parts, "![ROC, DET and scores of your people](verification.png)"])


def _checked(rates: Sequence[CheckedRate]) -> str:
    rows = [(f"{r.requested:g}", f"{r.measured:.3g}", _interval(r.interval), "yes" if r.holds else "no") for r in rates]
    return table(("requested FMR", "measured FMR", "95 % interval", "holds"), rows)


def _hardest(result: Result, folder: Path) -> str:
    files = [result.crops.files[row] for row in result.outcome.chosen.measured.rows]
    genuine, impostor = hardest_pairs(
        result.outcome.chosen.measured.sample.embeddings, result.outcome.chosen.measured.sample.names, files
    )
    plots.pair_grid(genuine, folder / "hardest-genuine.png")
    plots.pair_grid(impostor, folder / "hardest-impostor.png")
    return (
        "## Hardest pairs\n\nPairs of one person with the lowest scores:\n\n![genuine](hardest-genuine.png)\n\n"
        "Pairs of two people with the highest scores:\n\n![impostor](hardest-impostor.png)"
    )


def _problems(result: Result, folder: Path) -> str:
    problems, failures = result.problems, result.preparation.failures
    parts = ["## Problems of the data"]
    if failures:
        _write_sheet([path for path, _ in failures], folder / "failures.jpg")
        rows = [(f"`{path.parent.name}/{path.name}`", reason) for path, reason in failures[:MAX_ROWS]]
        parts += [
            f"### {len(failures)} photos without a face, or that cannot be read",
            "![photos](failures.jpg)",
            table(("photo", ""), rows),
            _omitted(len(failures)),
        ]
    if problems.single:
        names = ", ".join(problems.single[:MAX_ROWS])
        parts += [f"### {len(problems.single)} people with one photo", "They show no genuine pair.", names]
    if problems.errors:
        _write_sheet([result.crops.files[error.row] for error in problems.errors], folder / "label-errors.jpg")
        rows = [
            (
                f"`{error.identity}/{result.crops.files[error.row].name}`",
                f"{error.nearest} ({error.nearest_cosine:.3f})",
            )
            for error in problems.errors[:MAX_ROWS]
        ]
        parts += [
            f"### {len(problems.errors)} photos that may show another person",
            "![photos](label-errors.jpg)",
            table(("photo", "more similar to"), rows),
            _omitted(len(problems.errors)),
            "Faces in profile and poor photos are often listed although their label is right.",
        ]
    if problems.duplicates:
        pairs = [(f"{pair.first}, {pair.second}", f"{pair.cosine:.3f}") for pair in problems.duplicates[:MAX_ROWS]]
        parts += ["### People who may be one person", table(("people", "cosine"), pairs)]
    return "\n\n".join([part for part in parts if part] if len(parts) > 1 else [*parts, "None was found."])


def _omitted(count: int) -> str:
    return f"The first {MAX_ROWS} of {count}." if count > MAX_ROWS else ""


def _write_sheet(paths: Sequence[Path], file: Path) -> None:
    read = [(path, picture) for path in paths[:MAX_TILES] if (picture := read_picture(path)) is not None]
    captions = [f"{path.parent.name}/{path.name}" for path, _ in read]
    save(sheet([picture for _, picture in read], size=TILE, captions=captions), file)


def _interval(interval: tuple[float, float]) -> str:
    return f"{interval[0]:.3g} to {interval[1]:.3g}"
