"""Kills random processes and waits until the installation is ready again."""

import random
import time
from collections import Counter
from collections.abc import Callable

from tools.chaos.installation import Installation

READY_AFTER_S = 90.0
PAUSE_S = (0.2, 1.0)
SECOND_VICTIM, DURING_START = 0.15, 0.1
"""Probabilities: that two processes are killed at the same time, and that a process is killed again while it starts."""
SUPERVISED_AFTER_S = 0.5


class Killer:
    """Kills processes of an installation with SIGKILL.

    Attributes:
        kills: number of kills by name of the process.
        longest_s: longest time in seconds between a kill and the readiness of the whole installation.
    """

    def __init__(self, installation: Installation, rng: random.Random, violate: Callable[[str], None]) -> None:
        self.kills: Counter[str] = Counter()
        self.longest_s = 0.0
        self._installation, self._rng, self._violate = installation, rng, violate
        self._victims = [*installation.processes, *installation.database.victims]

    def strike(self) -> int:
        """Kills one or two processes, waits until all are ready again, and returns the number of kills.

        Raises:
            TimeoutError: the installation does not recover.
        """
        self._report_ended()
        before = self.kills.total()
        victims = self._rng.sample(self._victims, 2 if self._rng.random() < SECOND_VICTIM else 1)
        started = time.monotonic()
        for victim in victims:
            self._kill(victim)
        for victim in victims:
            if victim in self._installation.processes:
                self._installation.start(victim)
                if self._rng.random() < DURING_START:
                    time.sleep(self._rng.uniform(0.05, 1.5))
                    self._kill(victim)
                    self._installation.start(victim)
        self._await_ready(victims)
        self.longest_s = max(self.longest_s, time.monotonic() - started)
        time.sleep(self._rng.uniform(*PAUSE_S))
        return self.kills.total() - before

    def _kill(self, victim: str) -> None:
        if victim in self._installation.processes:
            self._installation.processes[victim].kill()
        elif not self._installation.database.kill(victim, self._rng):
            return
        self.kills[victim] += 1

    def _await_ready(self, victims: list[str]) -> None:
        """Waits for readiness, and starts a killed process again whose start failed, as a supervisor does."""
        deadline = time.monotonic() + READY_AFTER_S
        while not self._installation.is_ready():
            for victim in victims:
                process = self._installation.processes.get(victim)
                if process is not None and process.ended:
                    time.sleep(SUPERVISED_AFTER_S)
                    self._installation.start(victim)
            if time.monotonic() > deadline:
                raise TimeoutError(f"the service is not ready {READY_AFTER_S:g} s after a kill of {victims}")
            time.sleep(0.05)

    def _report_ended(self) -> None:
        """Reports and restarts processes that have ended although they were not killed."""
        for name, process in self._installation.processes.items():
            if process.ended:
                self._violate(f"{name} ended with status {process.process.returncode}:\n{process.log_end(600)}")
                self._installation.start(name)
