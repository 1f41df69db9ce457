"""Writes the exploration report as Markdown, and as one HTML file that contains its pictures."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from trainer import html_report
from trainer.explore.label_errors import DuplicateIdentity, SuspectedError
from trainer.explore.statistics import PictureStatistics, channel_statistics, duplicates
from trainer.pictures import read_picture
from trainer.plot_style import new_figure, save_figure
from trainer.sheets import save, sheet
from trainer.tables import table

MAX_TILES, MAX_ROWS, TILE = 48, 30, 180
ENDS = 8
"""Number of people with most and with fewest pictures that the report lists."""
TITLE = "Data set report"


@dataclass
class LabelFindings:
    """Possible label errors. `files`: the files of the rows that `errors` refer to."""

    errors: list[SuspectedError] = field(default_factory=list)
    duplicates: list[DuplicateIdentity] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


def write_report(
    pictures: Sequence[PictureStatistics],
    unreadable: Sequence[Path],
    findings: LabelFindings | None,
    fewest: int,
    output: Path,
) -> None:
    """Writes `report.md`, `report.html` and their pictures.

    Args:
        findings: None if label errors were not searched for.
        fewest: the report counts people with fewer pictures.
    """
    output.mkdir(parents=True, exist_ok=True)
    parts = [
        f"# {TITLE}",
        _numbers(pictures, unreadable, fewest),
        _pictures_per_person(pictures, output),
        _samples(pictures, output),
        _sizes(pictures, output),
        _colours(pictures),
        _duplicates(pictures, output),
    ]
    if findings is not None:
        parts += [_label_errors(findings, output), _duplicate_identities(findings)]
    if unreadable:
        parts.append("## Unreadable files\n\n" + "\n".join(f"- `{path}`" for path in unreadable[:MAX_ROWS]))
    html_report.write("\n\n".join(parts) + "\n", TITLE, output)


def _numbers(pictures: Sequence[PictureStatistics], unreadable: Sequence[Path], fewest: int) -> str:
    counts = np.array(list(Counter(picture.identity for picture in pictures).values()))
    rows = [
        ("pictures", len(pictures)),
        ("unreadable files", len(unreadable)),
        ("people", len(counts)),
        (f"people with fewer than {fewest} pictures", int((counts < fewest).sum())),
        ("pictures per person: minimum, median, maximum", f"{counts.min()}, {np.median(counts):.0f}, {counts.max()}"),
    ]
    return table(("", ""), rows)


def _pictures_per_person(pictures: Sequence[PictureStatistics], output: Path) -> str:
    counts = Counter(picture.identity for picture in pictures).most_common()
    figure, axes = new_figure(9, 3)
    axes.bar(range(len(counts)), [count for _, count in counts], width=1.0)
    axes.set(xlabel="people by number of pictures", ylabel="pictures")
    save_figure(figure, output / "classes.png")
    ends = counts if len(counts) <= 2 * ENDS else [*counts[:ENDS], ("…", ""), *counts[-ENDS:]]
    words = "## Pictures per person\n\n![pictures per person](classes.png)"
    return f"{words}\n\n{table(('person', 'pictures'), ends)}"


def _samples(pictures: Sequence[PictureStatistics], output: Path) -> str:
    rows = np.sort(np.random.default_rng(0).permutation(len(pictures))[:MAX_TILES])
    _write_sheet([pictures[row].path for row in rows], output / "samples.jpg")
    return "## Random sample\n\n![random pictures](samples.jpg)"


def _sizes(pictures: Sequence[PictureStatistics], output: Path) -> str:
    figure, axes = new_figure(5, 4)
    axes.scatter([p.width for p in pictures], [p.height for p in pictures], s=8, alpha=0.4)
    axes.set(xlabel="width, pixels", ylabel="height, pixels")
    save_figure(figure, output / "sizes.png")
    common = Counter((p.width, p.height) for p in pictures).most_common(8)
    rows = [(f"{width} x {height}", count) for (width, height), count in common]
    return f"## Sizes\n\n![sizes](sizes.png)\n\n{table(('size', 'pictures'), rows)}"


def _colours(pictures: Sequence[PictureStatistics]) -> str:
    mean, std = channel_statistics(pictures)
    rows = [(name, f"{mean[row]:.4f}", f"{std[row]:.4f}") for row, name in enumerate(("red", "green", "blue"))]
    numbers = [", ".join(f"{value:.4f}" for value in values) for values in (mean, std)]
    setting = f"scaling: {{mean: [{numbers[0]}], deviation: [{numbers[1]}]}}"
    head = ("channel", "mean", "standard deviation")
    return f"## Colours\n\nValues are 0 to 1. As a setting of the training: `{setting}`.\n\n{table(head, rows)}"


def _duplicates(pictures: Sequence[PictureStatistics], output: Path) -> str:
    groups = duplicates(pictures)
    if not groups:
        return "## Duplicates\n\nThere are none."
    _write_sheet([picture.path for group in groups for picture in group[:6]][:MAX_TILES], output / "duplicates.jpg")
    across = [group for group in groups if len({picture.identity for picture in group}) > 1]
    listed = "\n".join("- " + ", ".join(f"`{p.identity}/{p.path.name}`" for p in group) for group in groups[:MAX_ROWS])
    return (
        f"## Duplicates\n\n{len(groups)} groups of pictures are identical or nearly identical; {len(across)} of them "
        f"have several identities.\n\n![duplicates](duplicates.jpg)\n\n{listed}"
    )


def _label_errors(findings: LabelFindings, output: Path) -> str:
    title = "## Possible label errors"
    if not findings.errors:
        return f"{title}\n\nEvery picture is most similar to the other pictures of its own identity."
    _write_sheet([findings.files[error.row] for error in findings.errors[:MAX_TILES]], output / "label-errors.jpg")
    rows = [
        (
            f"{findings.files[error.row].parent.name}/{findings.files[error.row].name}",
            error.nearest,
            f"{error.own_cosine:.3f}",
            f"{error.nearest_cosine:.3f}",
        )
        for error in findings.errors[:MAX_ROWS]
    ]
    head = ("picture", "nearest identity", "cosine to its own identity", "cosine to the nearest")
    return (
        f"{title}\n\n{len(findings.errors)} pictures are more similar to another identity than to the other pictures "
        f"of their own.\n\n![possible label errors](label-errors.jpg)\n\n{table(head, rows)}"
    )


def _duplicate_identities(findings: LabelFindings) -> str:
    title = "## Identities that may be one person"
    if not findings.duplicates:
        return f"{title}\n\nNo two centroids reach the minimum cosine."
    rows = [(f"{pair.first}, {pair.second}", f"{pair.cosine:.3f}") for pair in findings.duplicates[:MAX_ROWS]]
    return f"{title}\n\n{table(('identities', 'cosine of their centroids'), rows)}"


def _write_sheet(paths: Sequence[Path], file: Path) -> None:
    read = [(path, picture) for path in paths if (picture := read_picture(path)) is not None]
    captions = [f"{path.parent.name}/{path.name}" for path, _ in read]
    save(sheet([picture for _, picture in read], size=TILE, captions=captions), file)
