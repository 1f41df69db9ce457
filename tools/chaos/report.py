"""Sums up the phases of a run and prints the tables."""

from collections import Counter

from rich.console import Console
from rich.table import Table

from tools.chaos.checks import Check
from tools.chaos.killer import Killer
from tools.chaos.ledger import Ledger
from tools.chaos.requests import Outcome, Statistics

MAX_PRINTED = 20


class Report:
    """The results of one kind of installation.

    Attributes:
        phases: number of completed phases.
        longest_s: longest time in seconds between a kill and the readiness of all processes.
    """

    def __init__(self, database: str) -> None:
        self.database, self.phases, self.migrations, self.jobs, self.longest_s = database, 0, 0, 0, 0.0
        self.kills: Counter[str] = Counter()
        self.statistics = Statistics()
        self.checks: dict[str, Check] = {}

    def add_phase(self, ledger: Ledger, killer: Killer, checks: list[Check]) -> None:
        self.phases += 1
        self.kills += killer.kills
        self.longest_s = max(self.longest_s, killer.longest_s)
        self.jobs += len(ledger.jobs)
        self.migrations += ledger.migrations
        for check in checks:
            total = self.checks.setdefault(check.name, Check(check.name))
            total.count = check.count if check.name.startswith("responses") else total.count + check.count
            total.violations += check.violations

    @property
    def violations(self) -> list[str]:
        return [f"{check.name}: {text}" for check in self.checks.values() for text in check.violations]

    def print(self, console: Console) -> None:
        """Prints kills, requests, checks, and the first violations."""
        title = f"{self.database} database: {self.kills.total()} kills in {self.phases} phases"
        table = Table("process", "kills", title=title, title_justify="left")
        for name, count in sorted(self.kills.items()):
            table.add_row(name, str(count))
        console.print(table)
        console.print(
            f"longest time from a kill to the readiness of all processes: {self.longest_s:.1f} s; "
            f"{self.jobs} jobs and {self.migrations} model migrations were completed"
        )
        console.print(self._requests())
        table = Table("check", "compared", "violations", title="Checks", title_justify="left")
        for check in self.checks.values():
            table.add_row(check.name, f"{check.count:,}", str(len(check.violations)))
        console.print(table)
        for text in self.violations[:MAX_PRINTED]:
            console.print(text, markup=False, style="red")
        if len(self.violations) > MAX_PRINTED:
            console.print(f"… and {len(self.violations) - MAX_PRINTED} more violations")

    def _requests(self) -> Table:
        outcomes = list(Outcome)
        table = Table("operation", *outcomes, title="Requests by outcome", title_justify="left")
        counts = self.statistics.counts
        for operation in sorted({operation for operation, _ in counts}):
            table.add_row(operation, *(str(counts[operation, outcome] or "") for outcome in outcomes))
        table.add_section()
        table.add_row("all", *(f"{sum(n for (_, o), n in counts.items() if o is outcome):,}" for outcome in outcomes))
        return table
