"""Runs phases with one kind of database until the requested number of kills is reached."""

import contextlib
import random
import time
from dataclasses import dataclass

from rich.console import Console
from rich.progress import Progress

from tools.chaos.installation import Installation
from tools.chaos.killer import Killer
from tools.chaos.phase import Phase
from tools.chaos.report import Report


@dataclass(frozen=True)
class Options:
    """The extent of a run.

    Attributes:
        kills: number of kills after which the run ends.
        minutes: time after which it ends even with fewer kills.
        clients: number of clients that send embeddings.
        phase_kills: number of kills between two checks.
    """

    kills: int
    minutes: float
    clients: int
    phase_kills: int


def run(installation: Installation, report: Report, rng: random.Random, options: Options, console: Console) -> None:
    """Runs phases until the end of the run, or until a phase has violations."""
    deadline = time.monotonic() + 60 * options.minutes
    with Progress(console=console) as progress, installation.running():
        bar = progress.add_task(f"kills, {installation.kind} database", total=options.kills)
        while (remaining := options.kills - report.kills.total()) > 0 and time.monotonic() < deadline:
            phase = Phase(installation, report.statistics, rng, options.clients)
            killer = Killer(installation, rng, phase.ledger.violate)
            target = min(options.phase_kills, remaining)

            def strike(phase: Phase = phase, killer: Killer = killer, target: int = target) -> bool:
                killer.strike()
                progress.update(bar, completed=report.kills.total() + killer.kills.total())
                unfinished = killer.kills.total() < target and time.monotonic() < deadline
                return unfinished and not phase.ledger.violations

            with contextlib.closing(phase):
                recovered = phase.run(strike)
                report.add_phase(phase.ledger, killer, phase.check() if recovered else phase.observed())
            console.print(f"{report.kills.total()} kills, {len(report.violations)} violations")
            if report.violations:
                return
