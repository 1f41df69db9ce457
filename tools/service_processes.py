"""Starts, kills and stops processes of the service, for tools that need several of them."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

START_TIMEOUT_S = 90.0
STOP_TIMEOUT_S = 60.0


@dataclass
class ServiceProcess:
    """One process of the service. It can be killed and started again.

    Attributes:
        command: the subcommand of `python -m service` with its options.
        environment: additional environment variables.
        log: file to which each start appends its output.
        is_ready: returns True when the process that was started last does its work.
    """

    name: str
    command: list[str]
    environment: Mapping[str, str]
    log: Path
    is_ready: Callable[[], bool]
    process: "subprocess.Popen[bytes]" = field(init=False)

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service", *self.command],
                env=own_environment() | dict(self.environment),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )

    @property
    def ended(self) -> bool:
        return self.process.poll() is not None

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        """Sends SIGTERM and returns the exit status; kills a process that does not end in time."""
        if not self.ended:
            self.process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(STOP_TIMEOUT_S)
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        return self.process.wait()

    def await_ready(self) -> None:
        """Waits until the process is ready. Raises TimeoutError with the end of its log."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.is_ready():
            if self.ended or time.monotonic() > deadline:
                raise TimeoutError(f"{self.name} did not become ready. Its log ends with:\n{self.log_end()}")
            time.sleep(0.05)

    def log_end(self, size: int = 2000) -> str:
        return self.log.read_bytes()[-size:].decode(errors="replace")


def own_environment() -> dict[str, str]:
    """Returns the environment without settings of a registry that is in use."""
    return {name: value for name, value in os.environ.items() if not name.startswith("REGISTRY_")}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(url: str, token: str | None = None) -> bool:
    """Returns True if a GET of the URL returns 200."""
    headers = {} if token is None else {"authorization": f"Bearer {token}"}
    try:
        return httpx.get(url, headers=headers, timeout=5).status_code == 200
    except httpx.TransportError:
        return False


@contextlib.contextmanager
def running(processes: list[ServiceProcess]) -> Iterator[None]:
    """Starts the processes in this order, waits until each is ready, and stops them in the reverse order."""
    started: list[ServiceProcess] = []
    try:
        for process in processes:
            process.start()
            started.append(process)
            process.await_ready()
        yield
    finally:
        for process in reversed(started):
            process.stop()
