"""Runs the containers of docker-compose.yml as a separate Compose project."""

import os
import subprocess
import time
from pathlib import Path

import httpx

from tests.server import free_port, is_ready, wait_for

REPOSITORY = Path(__file__).parents[2]
KILL_PYTHON = """
import os
for name in os.listdir("/proc"):
    if name.isdigit() and int(name) not in (1, os.getpid()):
        with open(f"/proc/{name}/cmdline", "rb") as file:
            if b"identity-registry" in file.read():
                os.kill(int(name), 9)
"""
KILL_POSTGRES = 'kill -9 "$(head -1 "$PGDATA/postmaster.pid")"'


class Stack:
    """Runs `docker compose` on a free port."""

    def __init__(self, supplied_secrets: Path) -> None:
        """`supplied_secrets`: folder of secrets that replace random ones; may be empty."""
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self._environment = os.environ | {"API_PORT": str(self.port), "COMPOSE_PROFILES": "cpu"}
        self._environment["SECRETS_FOLDER"] = str(supplied_secrets)

    def compose(self, *arguments: str, check: bool = True, stdin: bytes | None = None) -> str:
        """Runs a command and returns its output.

        Raises:
            AssertionError: the command failed and `check` is true; the message contains its output.
        """
        return self.compose_bytes(*arguments, check=check, stdin=stdin).decode(errors="replace")

    def compose_bytes(self, *arguments: str, check: bool = True, stdin: bytes | None = None) -> bytes:
        result = subprocess.run(
            ["docker", "compose", "--project-name", "identity-registry-test", "--progress", "plain", *arguments],
            cwd=REPOSITORY,
            env=self._environment,
            capture_output=True,
            input=stdin,
        )
        assert not check or result.returncode == 0, f"{arguments}: {result.stdout!r}\n{result.stderr.decode()}"
        return result.stdout

    def up(self, *options: str) -> float:
        """Starts all services, waits until they are healthy, and returns the duration in seconds."""
        started = time.monotonic()
        self.compose("up", "--detach", "--wait", *options)
        return time.monotonic() - started

    def execute(self, service: str, *command: str, index: int = 1) -> str:
        return self.compose("exec", "-T", "--index", str(index), service, *command)

    def kill(self, service: str, index: int = 1) -> None:
        """Kills the processes of a service from inside, as a crash does: Docker restarts crashed containers only."""
        self.compose("exec", "-T", "--index", str(index), service, "python", "-c", KILL_PYTHON, check=False)

    def kill_database(self) -> None:
        self.compose("exec", "-T", "--user", "postgres", "db", "sh", "-c", KILL_POSTGRES, check=False)

    def first_key(self) -> str:
        return self.compose("run", "--rm", "--no-TTY", "first-key").strip()

    def client(self, key: str) -> httpx.Client:
        return httpx.Client(base_url=self.url, headers={"x-api-key": key}, timeout=30)

    def await_ready(self, seconds: float = 60) -> None:
        with httpx.Client(base_url=self.url) as client:
            wait_for(lambda: is_ready(client), seconds)

    def pictures_of_worker(self, index: int) -> float:
        """Returns the number of pictures that a worker has processed."""
        program = (
            "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8001/metrics').read().decode())"
        )
        metrics = self.execute("worker", "python", "-c", program, index=index)
        line = next(line for line in metrics.splitlines() if line.startswith("registry_batch_pictures_sum"))
        return float(line.split()[1])
