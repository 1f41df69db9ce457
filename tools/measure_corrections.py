"""`python -m tools.measure_corrections`: measures what "this is not the person" with one photo changes.

For pairs of people who look alike and did not train the model: the first is enrolled with some pictures, and a picture
of the second that matches is given as a correction. The service then refuses a probe that is nearer to the corrected
face than to the templates.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import numpy.typing as npt
import typer

from tools.held_out import held_out_embeddings
from trainer.tables import table

Floats = npt.NDArray[np.float32]
FMR = 1e-3
ENROLLED = 5
MIN_PICTURES = 10


@dataclass(frozen=True)
class Outcome:
    """Counts of probes that matched before a correction, and of those that match after it."""

    wrong_before: int
    wrong_after: int
    right_before: int
    right_after: int


def main(
    identities: Annotated[
        list[Path],
        typer.Option(help="Folder or zip archive of <identity>/<aligned crop>; held-out people are used; repeatable."),
    ],
    pairs: Annotated[int, typer.Option(help="Number of pairs of people, the most alike first.")] = 100,
    config: Annotated[
        Path, typer.Option(help="YAML file that trained the embedder; its `split` says which people are held out.")
    ] = Path("configs/train.yaml"),
    work: Annotated[Path, typer.Option(help="Folder for extracted archives and cached artefacts.")] = Path("runs/data"),
) -> None:
    """Print the shares of the other person's pictures that are refused, and of the right person's that still match."""
    embeddings, names, calibration = held_out_embeddings(identities, config, work)
    of_person = {name: embeddings[names == name] for name in sorted(set(names.tolist()))}
    of_person = {name: vectors for name, vectors in of_person.items() if len(vectors) >= MIN_PICTURES}
    threshold = calibration.threshold_for(FMR)
    outcomes = []
    for first, second in _alike(of_person):
        if (outcome := correct(of_person[first], of_person[second], threshold)) is not None:
            outcomes.append(outcome)
        if len(outcomes) == pairs:
            break
    wrong, wrong_after = (sum(getattr(one, f"wrong_{when}") for one in outcomes) for when in ("before", "after"))
    right, right_after = (sum(getattr(one, f"right_{when}") for one in outcomes) for when in ("before", "after"))
    lines = [
        ("pictures of the other person that matched", wrong, f"refused: {1 - wrong_after / max(wrong, 1):.1%}"),
        ("pictures of the right person that matched", right, f"still match: {right_after / max(right, 1):.1%}"),
    ]
    typer.echo(table((f"{len(outcomes)} pairs of people who look alike", "probes", "after one correction"), lines))


def correct(enrolled: Floats, other: Floats, threshold: float) -> Outcome | None:
    """Corrects the identity of a person with a picture of another one; None: no picture of the other one matches."""
    templates, probes = enrolled[:ENROLLED], enrolled[ENROLLED:]
    wrong = (other @ templates.T).max(axis=1)
    if not (wrong >= threshold).any():
        return None
    shown = int(np.argmax(wrong))
    rest = np.delete(np.arange(len(other)), shown)
    matched = rest[wrong[rest] >= threshold]
    right = (probes @ templates.T).max(axis=1)
    known = np.flatnonzero(right >= threshold)
    return Outcome(
        len(matched),
        int((other[matched] @ other[shown] <= wrong[matched]).sum()),
        len(known),
        int((probes[known] @ other[shown] <= right[known]).sum()),
    )


def _alike(of_person: dict[str, Floats]) -> list[tuple[str, str]]:
    """Returns all ordered pairs of people, those with the most similar means first."""
    names = list(of_person)
    means = np.stack([vectors.mean(axis=0) for vectors in of_person.values()])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    cosines = means @ means.T
    np.fill_diagonal(cosines, -2)
    order = np.argsort(-cosines, axis=None)[: len(names) * (len(names) - 1)]
    return [(names[index // len(names)], names[index % len(names)]) for index in order.tolist()]


if __name__ == "__main__":
    typer.run(main)
