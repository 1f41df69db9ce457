"""The exploration as Markdown and as one HTML file that holds its pictures."""

import base64
import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import matplotlib as mpl
import numpy as np
from markdown_it import MarkdownIt

from trainer.explore.labels import Suspect, Twins
from trainer.explore.statistics import Picture, channel_statistics, duplicates
from trainer.pictures import read_picture
from trainer.sheets import save, sheet
from trainer.tables import table

mpl.use("Agg")
from matplotlib import pyplot as plt

SHOWN, LISTED = 48, 30
STYLE = "body{font:15px sans-serif;max-width:60em;margin:2em auto}img{max-width:100%}td,th{padding:.2em .8em}"


@dataclass
class Doubts:
    """What an embedder finds odd about the names. `files`: of the rows that suspects name."""

    suspects: list[Suspect] = field(default_factory=list)
    twins: list[Twins] = field(default_factory=list)
    files: list[Path] = field(default_factory=list)


def write_report(
    pictures: Sequence[Picture], unreadable: Sequence[Path], doubts: Doubts | None, fewest: int, output: Path
) -> None:
    """`report.md`, `report.html` and their pictures."""
    output.mkdir(parents=True, exist_ok=True)
    parts = [
        "# The pictures and the people",
        _numbers(pictures, unreadable, fewest),
        _classes(pictures, output),
        _samples(pictures, output),
        _sizes(pictures, output),
        _colours(pictures),
        _duplicates(pictures, output),
    ]
    if doubts is not None:
        parts += [_suspects(doubts, output), _twins(doubts)]
    if unreadable:
        parts.append("## Unreadable\n\n" + "\n".join(f"- `{path}`" for path in unreadable[:LISTED]))
    text = "\n\n".join(parts) + "\n"
    (output / "report.md").write_text(text)
    (output / "report.html").write_text(_html(text, output))


def _numbers(pictures: Sequence[Picture], unreadable: Sequence[Path], fewest: int) -> str:
    counts = np.array(list(Counter(picture.identity for picture in pictures).values()))
    rows = [
        ("pictures", len(pictures)),
        ("files that can't be read", len(unreadable)),
        ("people", len(counts)),
        (f"people with fewer than {fewest} pictures", int((counts < fewest).sum())),
        ("pictures of a person: fewest, median, most", f"{counts.min()}, {np.median(counts):.0f}, {counts.max()}"),
    ]
    return table(("", ""), rows)


def _classes(pictures: Sequence[Picture], output: Path) -> str:
    counts = Counter(picture.identity for picture in pictures).most_common()
    figure, axes = plt.subplots(figsize=(9, 3))
    axes.bar(range(len(counts)), [count for _, count in counts], width=1.0)
    axes.set(xlabel="people, those with most pictures first", ylabel="pictures")
    figure.savefig(output / "classes.png", dpi=100, bbox_inches="tight")
    plt.close(figure)
    ends = counts if len(counts) <= 2 * 8 else [*counts[:8], ("…", ""), *counts[-8:]]
    words = "## Pictures of each person\n\n![pictures of each person](classes.png)"
    return f"{words}\n\n{table(('person', 'pictures'), ends)}"


def _samples(pictures: Sequence[Picture], output: Path) -> str:
    rows = np.sort(np.random.default_rng(0).permutation(len(pictures))[:SHOWN])
    _sheet([pictures[row].path for row in rows], output / "samples.jpg")
    return "## Some of them\n\n![some pictures](samples.jpg)"


def _sizes(pictures: Sequence[Picture], output: Path) -> str:
    figure, axes = plt.subplots(figsize=(5, 4))
    axes.scatter([p.width for p in pictures], [p.height for p in pictures], s=8, alpha=0.4)
    axes.set(xlabel="width, pixels", ylabel="height, pixels")
    figure.savefig(output / "sizes.png", dpi=100, bbox_inches="tight")
    plt.close(figure)
    common = Counter((p.width, p.height) for p in pictures).most_common(8)
    rows = [(f"{width} x {height}", count) for (width, height), count in common]
    return f"## Sizes\n\n![sizes](sizes.png)\n\n{table(('size', 'pictures'), rows)}"


def _colours(pictures: Sequence[Picture]) -> str:
    mean, std = channel_statistics(pictures)
    rows = [(name, f"{mean[row]:.4f}", f"{std[row]:.4f}") for row, name in enumerate(("red", "green", "blue"))]
    return f"## Colours\n\nOf values of 0 to 1.\n\n{table(('channel', 'mean', 'standard deviation'), rows)}"


def _duplicates(pictures: Sequence[Picture], output: Path) -> str:
    groups = duplicates(pictures)
    if not groups:
        return "## Duplicates\n\nNone."
    _sheet([picture.path for group in groups for picture in group[:6]][:SHOWN], output / "duplicates.jpg")
    across = [group for group in groups if len({picture.identity for picture in group}) > 1]
    listed = "\n".join("- " + ", ".join(f"`{p.identity}/{p.path.name}`" for p in group) for group in groups[:LISTED])
    return (
        f"## Duplicates\n\n{len(groups)} groups of pictures that are the same or look nearly so; {len(across)} of them "
        f"bear several names.\n\n![duplicates](duplicates.jpg)\n\n{listed}"
    )


def _suspects(doubts: Doubts, output: Path) -> str:
    if not doubts.suspects:
        return "## Doubtful names\n\nEvery picture is nearest to the other pictures of its own person."
    _sheet([doubts.files[suspect.row] for suspect in doubts.suspects[:SHOWN]], output / "suspects.jpg")
    rows = [
        (f"{doubts.files[s.row].parent.name}/{doubts.files[s.row].name}", s.nearer_to, f"{s.own:.3f}", f"{s.other:.3f}")
        for s in doubts.suspects[:LISTED]
    ]
    head = ("picture", "nearer to", "cosine to its own person", "to the other")
    return (
        f"## Doubtful names\n\n{len(doubts.suspects)} pictures are nearer to another person than to the other pictures "
        f"of their own.\n\n![doubtful pictures](suspects.jpg)\n\n{table(head, rows)}"
    )


def _twins(doubts: Doubts) -> str:
    if not doubts.twins:
        return "## Two names of one person?\n\nNo two people's pictures are that near."
    rows = [(f"{pair.one}, {pair.other}", f"{pair.cosine:.3f}") for pair in doubts.twins[:LISTED]]
    return f"## Two names of one person?\n\n{table(('names', 'cosine of their centroids'), rows)}"


def _sheet(paths: Sequence[Path], file: Path) -> None:
    save(sheet([picture for path in paths if (picture := read_picture(path)) is not None], size=128), file)


def _html(text: str, folder: Path) -> str:
    body = MarkdownIt("commonmark").enable("table").render(text)

    def inline(match: re.Match[str]) -> str:
        file = folder / match.group(1)
        kind = "jpeg" if file.suffix == ".jpg" else "png"
        return f'src="data:image/{kind};base64,{base64.b64encode(file.read_bytes()).decode()}"'

    body = re.sub(r'src="([^":]+)"', inline, body)
    return f"<!doctype html><meta charset=utf-8><title>The pictures and the people</title><style>{STYLE}</style>{body}"
