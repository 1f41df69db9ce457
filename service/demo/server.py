"""Runs a registry for the demo: the API in a separate process, on a free port, with a temporary data folder."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx

from service.embedded_postgres.lease import EmbeddedPostgres
from service.errors import StartupError

START_TIMEOUT_S = 60.0
KEPT_SETTINGS = ("REGISTRY_INFERENCE__", "REGISTRY_DETECTOR__", "REGISTRY_EMBEDDER__")
POSTGRES = "starting PostgreSQL with pgvector"
API = "migrating the schema, loading the models"

Phase = Callable[[str], AbstractContextManager[None]]
"""Opens a phase of the start with this text; it closes when the phase ends."""


def _no_report(_: str) -> AbstractContextManager[None]:
    return contextlib.nullcontext()


@contextlib.contextmanager
def running_registry(phase: Phase = _no_report) -> Iterator[httpx.Client]:
    """Yields a client of an empty registry. All processes that it starts end with the block.

    Args:
        phase: called for each phase of the start, to report progress.

    Raises:
        StartupError: the registry did not start; the message contains its log.
    """
    with tempfile.TemporaryDirectory(prefix="identity-registry-demo-") as folder:
        data = Path(folder)
        data.chmod(0o711)  # started by root, PostgreSQL runs under another account, which must be able to enter
        log = data / "api.log"
        port = _free_port()
        with log.open("wb") as output:
            command = [sys.executable, "-m", "service", "serve", "--port", str(port)]
            process = subprocess.Popen(command, env=_environment(data), stdout=output, stderr=subprocess.STDOUT)
        try:
            with contextlib.ExitStack() as stack:
                with phase(POSTGRES):
                    # The API uses the same server; a lease here shows when PostgreSQL is ready.
                    stack.enter_context(EmbeddedPostgres(data / "postgres"))
                client = stack.enter_context(httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60))
                with phase(API):
                    _await_ready(client, process, log)
                yield client
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def _environment(data: Path) -> dict[str, str]:
    """Returns the environment of the API: without settings that would select a registry in use, and without a file."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("REGISTRY_") or name.startswith(KEPT_SETTINGS)
    }
    (data / "service.yaml").touch()
    return kept | {"REGISTRY_DATA_DIR": str(data), "REGISTRY_CONFIG": str(data / "service.yaml")}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _await_ready(client: httpx.Client, process: "subprocess.Popen[bytes]", log: Path) -> None:
    deadline = time.monotonic() + START_TIMEOUT_S
    while time.monotonic() < deadline:
        if process.poll() is not None:
            break
        with contextlib.suppress(httpx.TransportError):
            if client.get("/readyz").status_code == 200:
                return
        time.sleep(0.05)
    raise StartupError(f"The API did not start. Its log:\n{log.read_text()}")
