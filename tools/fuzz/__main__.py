"""`python -m tools.fuzz`: sends generated and mutated input to the service and reports what it cannot handle."""

import functools
import signal
import sys
import time
import warnings
from collections.abc import Iterable
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer
from hypothesis.errors import HypothesisWarning
from rich.console import Console

from tools.folders import database_folder
from tools.fuzz import archives, pictures
from tools.fuzz.display import Display
from tools.fuzz.findings import Findings
from tools.fuzz.over_http import HttpRun
from tools.fuzz.processes import Subject, run
from tools.fuzz.schema import SchemaRun
from tools.fuzz.services import running_services

CONSOLE = Console(width=170)


class Kind(StrEnum):
    """The kinds of input, in the order of the run."""

    PICTURES = "pictures"
    ARCHIVES = "archives"
    SCHEMA = "schema"
    REQUESTS = "requests"
    RAW = "raw"
    WORKER = "worker"


SHARES = {Kind.SCHEMA: 0.35, Kind.REQUESTS: 0.35, Kind.RAW: 0.15, Kind.WORKER: 0.15}
"""Shares of the requests."""
TIME = {Kind.PICTURES: 0.3, Kind.ARCHIVES: 0.1} | {kind: 0.6 * share for kind, share in SHARES.items()}
"""Shares of the time limit."""


class Budget:
    """Divides the time limit among the kinds of input. The start of the processes does not count.

    Args:
        minutes: time limit; None: no limit.
    """

    def __init__(self, kinds: Iterable[Kind], minutes: float | None) -> None:
        self._whole, self._minutes = sum(TIME[kind] for kind in kinds), minutes

    def deadline(self, kind: Kind) -> float | None:
        """Returns the time of `time.monotonic` at which a kind that starts now ends; None: it has no limit."""
        return None if self._minutes is None else time.monotonic() + 60 * self._minutes * TIME[kind] / self._whole


def main(
    seed: Annotated[int, typer.Option(help="The same seed gives the same pictures, archives and raw requests.")] = 1,
    requests: Annotated[int, typer.Option(help="Number of HTTP requests.")] = 2_000,
    picture_count: Annotated[int, typer.Option("--pictures", help="Number of pictures to decode.")] = 20_000,
    archive_count: Annotated[int, typer.Option("--archives", help="Number of zip archives to read.")] = 2_000,
    minutes: Annotated[float | None, typer.Option(help="Stop after this time. Default: no limit.")] = None,
    processes: Annotated[int, typer.Option(min=1, help="Processes that decode pictures and read archives.")] = 2,
    first: Annotated[int, typer.Option(help="Number of the first picture and archive, to repeat one.")] = 0,
    only: Annotated[list[Kind] | None, typer.Option(help="Run this kind of input only; repeatable.")] = None,
    output: Annotated[Path, typer.Option(help="Folder for failed inputs and report.json.")] = Path("runs/fuzz"),
) -> None:
    """Try to make the service fail with generated and mutated input.

    pictures: mutated JPEG, PNG, WebP, BMP and HEIC files, for the decoder. archives: mutated zip files and people.csv,
    for the reader of bulk enrolments. schema: requests of Schemathesis that conform to the OpenAPI document or violate
    it in one place. requests: requests of Hypothesis with hostile values, mutated pictures and archives. raw: errors in
    the HTTP syntax. worker: MessagePack bodies for a worker.

    The requests go to a real API with the embedded PostgreSQL, with and without keys, and to a real worker. All data is
    in a temporary folder. A failure is a response with a status of 500 or more (except 503 and 507), an exception that
    the code does not handle, or a process that ends or hangs. The exit status is 1 if there is a failure. Each failed
    input is stored with a text that names the problem; repeat a picture with --only pictures --first NUMBER --pictures
    1, and a request with `nc HOST PORT < FILE`.
    """
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # ends the processes of the service, as Ctrl-C does
    warnings.simplefilter("ignore", HypothesisWarning)  # about long representations of values
    chosen = only or list(Kind)
    findings = Findings(output, seed)
    started = time.monotonic()
    counts = {Kind.PICTURES: picture_count, Kind.ARCHIVES: archive_count}
    counts |= {kind: int(requests * share) for kind, share in SHARES.items()}
    plan = {kind: counts[kind] for kind in Kind if kind in chosen and counts[kind] > 0}
    budget = Budget(plan, minutes)
    with Display(CONSOLE, findings, {kind.value: count for kind, count in plan.items()}) as display:
        for kind, module in ((Kind.PICTURES, pictures), (Kind.ARCHIVES, archives)):
            if kind in plan:
                display.start(kind)
                subject = Subject(kind.value, module.make, module.check)
                numbers = range(first, first + plan[kind])
                for part in run(subject, seed, numbers, processes, budget.deadline(kind)):
                    findings.add(subject, seed, part)
                    display.advance(kind, part.tried)
                display.write(kind)
        if set(plan) & set(SHARES):
            _send_requests(plan, findings, seed, budget, display)
    findings.write()
    CONSOLE.print(findings.table())
    CONSOLE.print(f"{time.monotonic() - started:,.0f} s, {findings.failures} failures")
    if findings.failures:
        CONSOLE.print(f"failed inputs: {output}")
    sys.exit(1 if findings.failures else 0)


def _send_requests(plan: dict[Kind, int], findings: Findings, seed: int, budget: Budget, display: Display) -> None:
    with database_folder() as folder, running_services(folder) as services:
        http = HttpRun(services, findings, seed, display.advance)
        steps = {Kind.REQUESTS: http.requests, Kind.RAW: http.raw, Kind.WORKER: http.protocol}
        for kind in SHARES:
            if kind not in plan:
                continue
            display.start(kind)
            if kind is Kind.SCHEMA:
                schema = SchemaRun(services, findings, seed, http)
                schema.send(kind, plan[kind], budget.deadline(kind), functools.partial(display.advance, kind))
            else:
                steps[kind](kind, plan[kind], budget.deadline(kind))
            display.write(kind)
        http.logs("logs")


if __name__ == "__main__":
    typer.run(main)
