"""`make soak`: measures the growth of memory at 80 % of the service's capacity."""

import shutil
import tempfile
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import psutil
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from tools.chaos.installation import KINDS, Installation
from tools.soak.load import Load
from tools.soak.memory import MemorySampler
from tools.soak.pictures import scaled_pictures
from tools.soak.plot import draw

CONSOLE = Console(width=110)
CLIENTS = 6
SHARE = 0.8
CAPACITY_S = 60.0
MAX_GROWTH_PERCENT = 5.0
POSTGRES = "PostgreSQL (private)"
"""Printed, but not judged: its settings bound its memory, and the number of its processes changes."""
DESCRIPTION = """
Measures how many requests per second with pictures of 100 to 3,000 pixels the service processes, sends 80 % of that
for an hour, and samples the memory of API, inference worker and job runner every 10 seconds. Writes soak.csv and
soak.png. Exits with status 1 if the memory of a process grows by more than 5 % between the end of the warm-up and the
end (linear fit), or if a request fails with a status of 500 or higher.

make soak: an hour; the API runs the models

make soak MINUTES=10: a shorter run

python -m tools.soak --database external --output runs/soak-worker: the worker runs the models
"""


def main(
    minutes: Annotated[float, typer.Option(min=0.5, help="Duration of the load.")] = 60.0,
    warm_up_minutes: Annotated[float, typer.Option(min=0.0, help="Time before the growth is measured.")] = 5.0,
    database: Annotated[str, typer.Option(help="embedded or external.")] = "embedded",
    interval_s: Annotated[float, typer.Option(min=0.1, help="Seconds between two samples of the memory.")] = 10.0,
    capacity_s: Annotated[float, typer.Option(min=1.0, help="Seconds for measuring the capacity.")] = CAPACITY_S,
    output: Annotated[Path, typer.Option(help="Folder for soak.csv and soak.png.")] = Path("runs/soak"),
    seed: Annotated[int, typer.Option(help="Seed of the load.")] = 0,
) -> None:
    if database not in KINDS:
        raise typer.BadParameter(f"--database must be {' or '.join(KINDS)}")
    if warm_up_minutes >= minutes:
        raise typer.BadParameter("--warm-up-minutes must be less than --minutes")
    output.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix="ir-soak-"))
    folder.chmod(0o711)  # Started by root, PostgreSQL runs under another account, which must be able to enter.
    try:
        installation = Installation(database, folder)
        load = Load(installation.url, scaled_pictures(), seed)
        with installation.running():
            load.prepare()
            with CONSOLE.status("measuring the capacity"):
                rate = SHARE * load.capacity(CLIENTS, capacity_s)
            CONSOLE.print(f"capacity {rate / SHARE:.1f} requests/s; the load is {rate:.1f} requests/s")
            sampler = _sustain(installation, load, rate, minutes, interval_s)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    sampler.write(output / "soak.csv")
    draw(sampler.series, 60 * warm_up_minutes, output / "soak.png")
    if not _report(load, sampler, 60 * warm_up_minutes):
        raise typer.Exit(1)


def _sustain(installation: Installation, load: Load, rate: float, minutes: float, interval_s: float) -> MemorySampler:
    """Sends the load for some minutes and returns the samples."""
    load.outcomes.clear()
    load.latencies.clear()
    processes = {name: process.process.pid for name, process in installation.processes.items()}
    sampler = MemorySampler(processes, _server_pid(installation), interval_s)
    end = time.monotonic() + 60 * minutes
    with Progress(console=CONSOLE) as progress, sampler:
        bar = progress.add_task("load", total=60 * minutes)
        while (remaining := end - time.monotonic()) > 0:
            load.sustain(CLIENTS, min(60.0, remaining), rate)
            progress.update(bar, completed=60 * minutes - max(0.0, end - time.monotonic()))
    return sampler


def _report(load: Load, sampler: MemorySampler, warm_up_s: float) -> bool:
    """Prints the results and returns True if they are within the limits."""
    table = Table("process", "start, MiB", "end, MiB", "maximum, MiB", "growth", title_justify="left")
    table.title = "Memory with child processes; start: after the warm-up"
    within = True
    for name, series in sampler.series.items():
        growth = series.growth_percent(warm_up_s)
        start = next(mib for second, mib in zip(series.seconds, series.mib, strict=True) if second >= warm_up_s)
        within &= name == POSTGRES or growth <= MAX_GROWTH_PERCENT
        table.add_row(name, f"{start:.0f}", f"{series.mib[-1]:.0f}", f"{max(series.mib):.0f}", f"{growth:+.1f} %")
    CONSOLE.print(table)
    outcomes = ", ".join(f"{outcome}: {count:,}" for outcome, count in sorted(load.outcomes.items()))
    p50, p95 = np.percentile(load.latencies, [50, 95])
    CONSOLE.print(f"{load.outcomes.total():,} requests ({outcomes}); p50 {p50:.0f} ms, p95 {p95:.0f} ms")
    failed = sum(count for outcome, count in load.outcomes.items() if outcome == "broken" or outcome >= "500")
    if failed:
        CONSOLE.print(f"{failed} requests failed", style="red")
    if not within:
        CONSOLE.print(f"the memory of a process grows by more than {MAX_GROWTH_PERCENT:g} %", style="red")
    return within and not failed


def _server_pid(installation: Installation) -> int | None:
    """Returns the process id of the database server."""
    for process in psutil.process_iter(["name", "cmdline"]):
        command = " ".join(process.info["cmdline"] or [])
        if (process.info["name"] or "").startswith("postgres") and f" -D {installation.folder}/" in f" {command}":
            return process.pid
    return None


main.__doc__ = DESCRIPTION


if __name__ == "__main__":
    typer.run(main)
