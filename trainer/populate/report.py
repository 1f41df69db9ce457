"""Writes the results of `populate`: a table of all pictures, a summary, and a sheet of the rejected pictures."""

import csv
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from trainer.pictures import read_picture
from trainer.populate.enrolment import ACCEPTED, DUPLICATE, REJECTED, Outcome
from trainer.sheets import save, sheet
from trainer.tables import table

MAX_SHOWN = 48


def write_report(outcomes: Sequence[Outcome], seconds: float, folder: Path) -> str:
    """Writes `populated.csv`, `report.md` and, if a picture is rejected, `rejected.jpg`. Returns a summary line."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "populated.csv").open("w", newline="") as file:
        rows = ((o.identity, str(o.picture), o.status, o.code, o.detail, f"{o.seconds:.3f}") for o in outcomes)
        csv.writer(file).writerows([("identity", "picture", "status", "code", "detail", "seconds"), *rows])
    counts = Counter(outcome.status for outcome in outcomes)
    identities = len({outcome.identity for outcome in outcomes})
    enrolled = len({outcome.identity for outcome in outcomes if outcome.status in (ACCEPTED, DUPLICATE)})
    summary = (
        f"{counts[ACCEPTED]} pictures enrolled, {counts[DUPLICATE]} enrolled before, {counts[REJECTED]} rejected; "
        f"{enrolled} of {identities} identities enrolled; {len(outcomes) / max(seconds, 1e-9):.1f} pictures per second"
    )
    parts = ["# Registered data set", summary + ".", _durations(outcomes)]
    rejected = [outcome for outcome in outcomes if outcome.status == REJECTED]
    if rejected:
        codes = Counter(outcome.code for outcome in rejected)
        parts.append(table(("error code", "rejected pictures"), codes.most_common()))
        shown = (read_picture(outcome.picture) for outcome in rejected[:MAX_SHOWN])
        save(sheet([picture for picture in shown if picture is not None]), folder / "rejected.jpg")
        parts.append("![rejected pictures](rejected.jpg)")
    (folder / "report.md").write_text("\n\n".join(parts) + "\n")
    return summary


def _durations(outcomes: Sequence[Outcome]) -> str:
    milliseconds = 1000 * np.array([outcome.seconds for outcome in outcomes])
    p50, p95 = np.percentile(milliseconds, [50, 95])
    return f"Duration of a request: {p50:.0f} ms (p50), {p95:.0f} ms (p95)."
