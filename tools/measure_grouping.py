"""`python -m tools.measure_grouping`: measures how well grouping separates people who did not train the model.

A pair of pictures is a true positive if both pictures are in one group and show the same person. Half of the people
chose the default rate, by a hash of their names; the table has a line for each half.
"""

import hashlib
from collections import Counter
from collections.abc import Hashable, Iterable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from service.recognition.clustering import cluster
from service.runtime.settings import load_settings
from tools.held_out import held_out_embeddings
from trainer.tables import table

RATES = (1e-2, 3e-3, 1e-3, 1e-4)


def main(
    identities: Annotated[
        list[Path],
        typer.Option(help="Folder or zip archive of <identity>/<aligned crop>; held-out people are used; repeatable."),
    ],
    config: Annotated[
        Path, typer.Option(help="YAML file that trained the embedder; its `split` says which people are held out.")
    ] = Path("configs/train.yaml"),
    work: Annotated[Path, typer.Option(help="Folder for extracted archives and cached artefacts.")] = Path("runs/data"),
) -> None:
    """Print pairwise precision, recall and F1 by the false match rate of the threshold."""
    embeddings, names, calibration = held_out_embeddings(identities, config, work)
    halves = np.array([int(hashlib.md5(name.encode(), usedforsecurity=False).hexdigest(), 16) % 2 for name in names])
    lines = []
    for half, label in ((0, "chose the rate"), (1, "held back")):
        of_half, people = embeddings[halves == half], names[halves == half]
        for rate in RATES:
            labels = cluster(of_half, calibration.threshold_for(rate))
            scores = [f"{value:.3f}" for value in pairwise(labels.tolist(), people.tolist())]
            lines.append((label, f"{len(people):,} of {len(set(people))}", f"{rate:g}", *scores))
    head = ("half", "pictures of people", "FMR of the threshold", "precision", "recall", "F1")
    typer.echo(table(head, lines))
    typer.echo(f"The default is {load_settings().recognition.grouping_fmr:g} (recognition.grouping_fmr).")


def pairwise(labels: Iterable[Hashable], people: Iterable[Hashable]) -> tuple[float, float, float]:
    """Returns precision, recall and F1 over all pairs of pictures."""
    labels, people = list(labels), list(people)
    both, grouped, same = _pairs(zip(labels, people, strict=True)), _pairs(labels), _pairs(people)
    return both / max(grouped, 1), both / max(same, 1), 2 * both / max(grouped + same, 1)


def _pairs(keys: Iterable[Hashable]) -> int:
    return sum(count * (count - 1) // 2 for count in Counter(keys).values())


if __name__ == "__main__":
    typer.run(main)
