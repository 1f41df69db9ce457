"""What became of every picture: a table for each, a summary, and the refused ones to look at."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainer.pictures import read_picture
from trainer.populate.enrolment import ACCEPTED, DUPLICATE, REJECTED, Outcome
from trainer.sheets import save, sheet
from trainer.tables import table

MOST_SHOWN = 48


def write_report(outcomes: Sequence[Outcome], seconds: float, folder: Path) -> str:
    """`populated.csv`, `report.md` and, where pictures were refused, `rejected.jpg`; returns a line to print."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "populated.csv").open("w", newline="") as file:
        rows = ((o.identity, str(o.picture), o.status, o.code, o.detail, f"{o.seconds:.3f}") for o in outcomes)
        csv.writer(file).writerows([("identity", "picture", "status", "code", "detail", "seconds"), *rows])
    counts = Counter(outcome.status for outcome in outcomes)
    people = len({outcome.identity for outcome in outcomes})
    enrolled = len({outcome.identity for outcome in outcomes if outcome.status in (ACCEPTED, DUPLICATE)})
    said = (
        f"{counts[ACCEPTED]} pictures enrolled, {counts[DUPLICATE]} were there already, {counts[REJECTED]} refused; "
        f"{enrolled} of {people} people are in; {len(outcomes) / max(seconds, 1e-9):.1f} pictures a second"
    )
    parts = ["# Populating the registry", said + ".", _requests(outcomes)]
    refused = [outcome for outcome in outcomes if outcome.status == REJECTED]
    if refused:
        reasons = Counter(outcome.code for outcome in refused)
        parts.append(table(("refused because of", "pictures"), reasons.most_common()))
        shown = (read_picture(outcome.picture) for outcome in refused[:MOST_SHOWN])
        save(sheet([picture for picture in shown if picture is not None]), folder / "rejected.jpg")
        parts.append("![refused pictures](rejected.jpg)")
    (folder / "report.md").write_text("\n\n".join(parts) + "\n")
    return said


def _requests(outcomes: Sequence[Outcome]) -> str:
    milliseconds = 1000 * np.array([outcome.seconds for outcome in outcomes])
    p50, p95 = np.percentile(milliseconds, [50, 95])
    return f"A request took {p50:.0f} ms (p50), {p95:.0f} ms (p95)."
