"""Counts the results of all inputs and stores the inputs that failed."""

import json
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from rich.table import Table

from tools.fuzz.processes import Part, Subject

ALLOWED = {503, 507}
"""Statuses of the range 5xx that a client may cause: the service is busy, or its disk is full."""
MAX_STORED = 40
"""Maximum number of stored inputs of each section."""


@dataclass
class Section:
    """Results of one kind of input.

    Attributes:
        outcomes: number of inputs by outcome: a status, an error code, or "decoded".
        server_errors: number of responses with a status of 500 or more, except `ALLOWED`.
        exceptions: number of uncaught exceptions.
        crashes: number of processes that a signal ended, or that did not finish an input in time.
    """

    tried: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    server_errors: int = 0
    exceptions: int = 0
    crashes: int = 0
    slowest_s: float = 0.0
    slowest: str = ""

    @property
    def failures(self) -> int:
        return self.server_errors + self.exceptions + self.crashes


class Findings:
    """The results of a run.

    Args:
        folder: receives the failed inputs and `report.json`.
    """

    def __init__(self, folder: Path, seed: int) -> None:
        self._folder, self._seed = folder, seed
        self._stored: Counter[str] = Counter()
        self.sections: dict[str, Section] = {}

    def section(self, name: str) -> Section:
        return self.sections.setdefault(name, Section())

    def count(self, name: str, outcome: str, seconds: float, description: str) -> None:
        """Counts one input. `description` identifies the input if it is the slowest one."""
        section = self.section(name)
        section.tried += 1
        section.outcomes[outcome] += 1
        if seconds > section.slowest_s:
            section.slowest_s, section.slowest = seconds, description

    def add(self, subject: Subject, seed: int, part: Part) -> None:
        """Counts the results of a process and stores its failed inputs, which are made again from their numbers."""
        section = self.section(subject.name)
        section.tried += part.tried
        section.outcomes += part.outcomes
        seconds, slowest = part.slowest
        if seconds > section.slowest_s:
            section.slowest_s, section.slowest = seconds, f"number {slowest}"
        for number, kind, problem in part.failures:
            if kind == "crash":
                section.crashes += 1
            else:
                section.exceptions += 1
            self.store(subject.name, problem, f"number {number}", subject.make(seed, number))

    def respond(self, name: str, status: int | None, seconds: float, request: bytes, description: str) -> None:
        """Counts a request. `status`: None: the service closed the connection, or waits for more bytes."""
        self.count(name, "no response" if status is None else str(status), seconds, description)
        if status is not None and status >= 500 and status not in ALLOWED:
            self.section(name).server_errors += 1
            self.store(name, f"status {status}", description, request)

    def store(self, name: str, problem: str, description: str, data: bytes) -> None:
        """Writes a failed input, and a text file with the seed and the problem."""
        self._stored[name] += 1
        if self._stored[name] > MAX_STORED:
            return
        self._folder.mkdir(parents=True, exist_ok=True)
        stem = f"seed{self._seed}-{name}-{self._stored[name]:03}"
        (self._folder / f"{stem}.bin").write_bytes(data)
        text = f"seed: {self._seed}\nsection: {name}\ninput: {description}\nproblem: {problem}\n"
        (self._folder / f"{stem}.txt").write_text(text, errors="backslashreplace")

    @property
    def failures(self) -> int:
        return sum(section.failures for section in self.sections.values())

    def write(self) -> None:
        """Writes `report.json`, from which other programs read the figures."""
        self._folder.mkdir(parents=True, exist_ok=True)
        document: dict[str, Any] = {"seed": self._seed, "failures": self.failures}
        document["sections"] = {name: vars(section) for name, section in self.sections.items()}
        (self._folder / "report.json").write_text(json.dumps(document, indent=1))

    def table(self) -> Table:
        """Returns one row for each section."""
        table = Table(title=f"Fuzzing with seed {self._seed}", title_justify="left")
        names = ("section", "inputs", "5xx", "exceptions", "crashes", "slowest ms", "slowest input", "outcomes")
        for name in names:
            table.add_column(name, justify="left" if name in ("section", "slowest input", "outcomes") else "right")
        for name, section in self.sections.items():
            counts = section.server_errors, section.exceptions, section.crashes
            most = ", ".join(f"{outcome}: {count:,}" for outcome, count in section.outcomes.most_common(6))
            shown = section.slowest.encode("ascii", "backslashreplace").decode().replace("[", "\\[")[:60]
            numbers = (str(count) for count in counts)
            table.add_row(name, f"{section.tried:,}", *numbers, f"{section.slowest_s * 1000:,.0f}", shown, most)
        return table
