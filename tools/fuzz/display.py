"""Shows the progress of a run: a bar for each kind of input in a terminal, and lines for a log file."""

import time
from collections.abc import Mapping
from types import TracebackType
from typing import Self

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tools.fuzz.findings import Findings

LINE_S = 60.0
"""Seconds between two lines in a log file, in which the bars do not appear."""


class Display:
    """The progress of a run. `report.json` is written with every line, so that an interrupted run leaves figures.

    Args:
        plan: number of inputs by kind.
    """

    def __init__(self, console: Console, findings: Findings, plan: Mapping[str, int]) -> None:
        self._console, self._findings = console, findings
        columns = TextColumn("{task.description:10}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()
        self._progress = Progress(*columns, console=console, disable=not console.is_terminal)
        self._tasks = {kind: self._progress.add_task(kind, total=count, start=False) for kind, count in plan.items()}
        self._started = self._written = time.monotonic()

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._progress.stop()

    def start(self, kind: str) -> None:
        self._progress.start_task(self._tasks[kind])

    def advance(self, kind: str, inputs: int = 1) -> None:
        self._progress.advance(self._tasks[kind], inputs)
        if time.monotonic() > self._written + LINE_S:
            self.write(kind)

    def write(self, kind: str) -> None:
        """Prints the number of inputs and failures of a kind so far."""
        self._written = time.monotonic()
        section, seconds = self._findings.section(kind), self._written - self._started
        line = f"{seconds:8,.0f} s  {kind}: {section.tried:,} inputs, {section.failures} failures"
        self._console.print(line, highlight=False)
        self._findings.write()
