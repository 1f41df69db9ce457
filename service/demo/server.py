"""A registry of the demo's own: the real API in a process, on a free port, with a data folder that goes away."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import httpx

from service.errors import StartupError

START_TIMEOUT_S = 60.0
KEPT_SETTINGS = ("REGISTRY_INFERENCE__", "REGISTRY_DETECTOR__", "REGISTRY_EMBEDDER__")


@contextlib.contextmanager
def running_registry() -> Iterator[httpx.Client]:
    """A client of a registry that starts empty. Everything that was started has ended when the block has.

    Raises:
        StartupError: it did not start; its log says why.
    """
    with tempfile.TemporaryDirectory(prefix="identity-registry-demo-") as folder:
        data = Path(folder)
        data.chmod(0o711)  # as root, the account that runs PostgreSQL must be able to enter
        log = data / "api.log"
        port = _free_port()
        with log.open("wb") as output:
            command = [sys.executable, "-m", "service", "api", "--port", str(port)]
            process = subprocess.Popen(command, env=_environment(data), stdout=output, stderr=subprocess.STDOUT)
        try:
            with httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=60) as client:
                _await_ready(client, process, log)
                yield client
        finally:
            process.send_signal(signal.SIGINT)
            process.wait()


def _environment(data: Path) -> dict[str, str]:
    """The user's environment less what would point the demo at a registry in use, and no configuration file."""
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
    raise StartupError(f"the API did not start:\n{log.read_text()}")
