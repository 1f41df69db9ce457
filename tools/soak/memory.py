"""Samples the memory of the service's processes and fits its growth."""

import contextlib
import csv
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import psutil

MIB = 1024**2


@dataclass
class Series:
    """The memory of one process with its children: seconds since the start and MiB."""

    seconds: list[float] = field(default_factory=list)
    mib: list[float] = field(default_factory=list)

    def growth_percent(self, from_s: float) -> float:
        """Returns the growth of a fitted line from `from_s` to the last sample, in percent of its first value."""
        chosen = [(second, value) for second, value in zip(self.seconds, self.mib, strict=True) if second >= from_s]
        if len(chosen) < 2:
            raise ValueError("the run is too short: fewer than two samples were taken after the warm-up")
        seconds, values = np.array(chosen).T
        slope, intercept = np.polyfit(seconds, values, 1)
        first, last = intercept + slope * seconds[0], intercept + slope * seconds[-1]
        return float((last - first) / first * 100)


class MemorySampler:
    """Samples in a thread while the block runs.

    Args:
        processes: process id by name. RSS of the process and its children is added, except for those of PostgreSQL.
        database: process id of the database server; None: it is not sampled. USS is added instead of RSS, because
            the RSS of each of its processes contains the memory that all of them share.
    """

    def __init__(self, processes: dict[str, int], database: int | None, interval_s: float) -> None:
        self.series = {name: Series() for name in processes}
        self._processes, self._database, self._interval_s = processes, database, interval_s
        if database is not None:
            self.series["PostgreSQL (private)"] = Series()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "MemorySampler":
        self._started = time.monotonic()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopped.set()
        self._thread.join()

    def write(self, file: Path) -> None:
        """Writes all samples as CSV: process, second, MiB."""
        with file.open("w", newline="") as output:
            writer = csv.writer(output)
            writer.writerow(["process", "second", "mib"])
            for name, series in self.series.items():
                for second, mib in zip(series.seconds, series.mib, strict=True):
                    writer.writerow([name, f"{second:.1f}", f"{mib:.2f}"])

    def _run(self) -> None:
        while True:
            second = time.monotonic() - self._started
            for name, pid in self._processes.items():
                self._add(name, second, _family_mib(pid, private=False))
            if self._database is not None:
                self._add("PostgreSQL (private)", second, _family_mib(self._database, private=True))
            if self._stopped.wait(self._interval_s):
                return

    def _add(self, name: str, second: float, mib: float) -> None:
        self.series[name].seconds.append(second)
        self.series[name].mib.append(mib)


def _family_mib(pid: int, private: bool) -> float:
    total = 0
    with contextlib.suppress(psutil.NoSuchProcess):
        parent = psutil.Process(pid)
        for process in (parent, *parent.children(recursive=True)):
            with contextlib.suppress(psutil.NoSuchProcess):
                total += process.memory_full_info().uss if private else process.memory_info().rss
    return total / MIB
