"""`python -m tools.bench_start`: measures the time from the API's start to its readiness, with and without workers."""

import os
import socket
import subprocess
import sys
import time

import httpx
import typer
from rich.progress import track

from service.embedded_postgres.lease import EmbeddedPostgres
from service.gallery.storage import schema
from tools.folders import database_folder

REPEATS = 5
TIMEOUT_S = 60
CASES = {"models in workers": {"REGISTRY_INFERENCE__WORKER_URL": "http://127.0.0.1:1"}, "models in the API": {}}


def main() -> None:
    """Print the median of five starts of each case, on a running database."""
    with database_folder() as folder, EmbeddedPostgres(folder / "postgres") as url:
        schema.upgrade(url)
        config = folder / "service.yaml"
        config.touch()  # the defaults, not the settings of this machine
        common = {"REGISTRY_DATABASE__URL": url, "REGISTRY_CONFIG": str(config)}
        for name, environment in CASES.items():
            starts = track(range(REPEATS), description=name, transient=True)
            times = sorted(_start(common | environment) for _ in starts)
            typer.echo(f"{name}: {times[REPEATS // 2]:.2f} s to ready (median of {REPEATS})")


def _start(environment: dict[str, str]) -> float:
    """Starts the API and returns the seconds until it is ready.

    Raises:
        TimeoutError: the API ended or was not ready in time.
    """
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "serve", "--port", str(port)],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            while not _is_ready(client):
                if process.poll() is not None or time.monotonic() - started > TIMEOUT_S:
                    raise TimeoutError("the API did not start; run `identity-registry serve` to read its log")
                time.sleep(0.01)
        return time.monotonic() - started
    finally:
        process.terminate()
        process.wait()


def _is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz").status_code == 200
    except httpx.TransportError:
        return False


if __name__ == "__main__":
    typer.run(main)
