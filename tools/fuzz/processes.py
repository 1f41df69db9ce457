"""Runs a check on many inputs in several processes, and survives checks that crash or do not end."""

import multiprocessing
import multiprocessing.connection
import os
import resource
import signal
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.sharedctypes import RawArray
from typing import Any

HANG_S = 60.0
"""A check that takes longer counts as a crash: the process is killed."""
MEMORY_BYTES = 6 * 1024**3
BATCH = 500
NUMBER, STARTED, STOP = range(3)
"""Fields of the memory that a lane shares with its process."""


@dataclass(frozen=True)
class Subject:
    """Inputs with a check. Both functions belong to a module, because they are called in other processes.

    Attributes:
        make: returns the input for a seed and a number.
        check: returns the outcome of an input; an exception is a fault.
    """

    name: str
    make: Callable[[int, int], bytes]
    check: Callable[[bytes], str]


@dataclass
class Part:
    """Results of consecutive inputs.

    Attributes:
        failures: number, kind ("exception" or "crash") and description of each failed input.
    """

    tried: int = 0
    outcomes: Counter[str] = field(default_factory=Counter)
    slowest: tuple[float, int] = (0.0, 0)
    failures: list[tuple[int, str, str]] = field(default_factory=list)


class _Lane:
    """A process that checks a range of inputs. It is replaced if an input crashes it."""

    def __init__(self, subject: Subject, seed: int, numbers: range) -> None:
        self._subject, self._seed, self._stop = subject, seed, numbers.stop
        self._shared = RawArray("q", 3)
        self._next = numbers.start
        self.done = not numbers
        self._start()

    def _start(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.receiver, sender = context.Pipe(duplex=False)
        self._shared[NUMBER], self._shared[STARTED] = self._next, 0
        arguments = (self._subject, self._seed, range(self._next, self._stop), self._shared, sender)
        self._process = context.Process(target=_work, args=arguments, daemon=True)
        if not self.done:
            self._process.start()
        sender.close()

    def request_stop(self) -> None:
        self._shared[STOP] = 1

    def parts(self) -> Iterator[Part]:
        """Yields results that have arrived, and the crash of the process if it has ended before its last input."""
        try:
            while not self.done and self.receiver.poll():
                part: Part = self.receiver.recv()
                self._next += part.tried
                yield part
        except EOFError:
            self._process.join()
            if self._process.exitcode == 0:
                self.done = True
            else:
                yield from self._crash(f"the process ended with status {self._process.exitcode}")
        started = self._shared[STARTED]
        if not self.done and started and (time.monotonic_ns() - started) / 1e9 > HANG_S:
            self._process.kill()
            self._process.join()
            yield from self._crash(f"the input was not processed within {HANG_S:g} s")

    def _crash(self, problem: str) -> Iterator[Part]:
        if not self._shared[STARTED]:
            raise RuntimeError(f"a process does not start: {problem}")
        number = self._shared[NUMBER]
        yield Part(number + 1 - self._next, Counter(crash=1), failures=[(number, "crash", problem)])
        self._next = number + 1
        self.done = self._next >= self._stop
        self._start()


def run(subject: Subject, seed: int, numbers: range, processes: int, deadline: float | None) -> Iterator[Part]:
    """Yields the results of the inputs with these numbers. The order is not that of the numbers.

    Args:
        deadline: time of `time.monotonic` after which no further input is checked; None: all inputs are checked.
    """
    size = -(-len(numbers) // processes)
    starts = range(numbers.start, numbers.stop, size) if numbers else range(0)
    lanes = [_Lane(subject, seed, range(start, min(start + size, numbers.stop))) for start in starts]
    while running := [lane for lane in lanes if not lane.done]:
        multiprocessing.connection.wait([lane.receiver for lane in running], timeout=0.5)
        for lane in running:
            if deadline is not None and time.monotonic() > deadline:
                lane.request_stop()
            yield from lane.parts()


def _work(subject: Subject, seed: int, numbers: Sequence[int], shared: Any, sender: Any) -> None:
    _isolate()
    part = Part()
    for number in numbers:
        shared[NUMBER], shared[STARTED] = number, time.monotonic_ns()
        _check(subject, seed, number, part)
        if shared[STOP]:
            break
        if part.tried >= BATCH or part.failures:
            sender.send(part)
            part = Part()
    sender.send(part)


def _check(subject: Subject, seed: int, number: int, part: Part) -> None:
    data = subject.make(seed, number)
    started = time.perf_counter()
    try:
        outcome = subject.check(data)
    except Exception:
        outcome = "exception"
        part.failures.append((number, "exception", traceback.format_exc()))
    part.tried += 1
    part.outcomes[outcome] += 1
    part.slowest = max(part.slowest, (time.perf_counter() - started, number))


def _isolate() -> None:
    """Limits the memory and discards warnings: libraries print them for damaged files."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    warnings.simplefilter("ignore")
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
