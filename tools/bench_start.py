"""How long the API takes from its start to `/readyz`, with the models elsewhere and with the models inside.

python -m tools.bench_start
"""

import os
import socket
import subprocess
import sys
import time

import httpx
import typer

from service.embedded_postgres.lease import EmbeddedPostgres
from service.gallery.storage import schema
from tools.folders import database_folder

REPEATS = 5
CASES = {"models elsewhere": {"REGISTRY_INFERENCE__WORKER_URL": "http://127.0.0.1:1"}, "models inside": {}}


def main() -> None:
    """Print the median of five starts each, on a database that runs already."""
    with database_folder() as folder, EmbeddedPostgres(folder / "postgres") as url:
        schema.upgrade(url)
        for name, environment in CASES.items():
            times = sorted(_start({"REGISTRY_DATABASE__URL": url, **environment}) for _ in range(REPEATS))
            typer.echo(f"{name}: {times[REPEATS // 2]:.2f} s to ready (median of {REPEATS})")


def _start(environment: dict[str, str]) -> float:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    started = time.monotonic()
    process = subprocess.Popen(
        [sys.executable, "-m", "service", "api", "--port", str(port)],
        env=os.environ | environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{port}") as client:
            while not _is_ready(client):
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
