"""Runs the service, workers and leases of the embedded database in processes of their own."""

import contextlib
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import httpx
import psutil

LEASE = """
import sys
from pathlib import Path
from service.errors import StartupError
from service.embedded_postgres.lease import EmbeddedPostgres
try:
    with EmbeddedPostgres(Path(sys.argv[1])) as url:
        print(url, flush=True)
        sys.stdin.read()
except StartupError as error:
    sys.exit(str(error))
"""


@dataclass
class RunningApi:
    process: "subprocess.Popen[bytes]"
    client: httpx.Client
    log: Path

    def stop(self) -> int:
        """Sends SIGINT, like Ctrl-C, and returns the exit status."""
        self.process.send_signal(signal.SIGINT)
        return self.process.wait(40)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@contextlib.contextmanager
def running_api(
    data: Path,
    *options: str,
    folder: Path | None = None,
    host: str = "127.0.0.1",
    verify: ssl.SSLContext | None = None,
    unix_socket: Path | None = None,
    **environment: str,
) -> Iterator[RunningApi]:
    """Runs `python -m service serve` on a free port and yields it when it is ready.

    Args:
        folder: working directory; packages in it take precedence over installed ones.
        verify: the certificates of a server with TLS; None: it has none.
        unix_socket: path of the Unix socket on which the server listens instead.
        environment: additional environment variables.
    """
    port = free_port()
    log = data / f"api-{port}.log"
    config = data / "service.yaml"
    config.touch()
    address = ["--host", host, "--port", str(port)] if unix_socket is None else ["--unix-socket", str(unix_socket)]
    command = [sys.executable, "-m", "service", "serve", *address, *options]
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env=os.environ | {"REGISTRY_DATA_DIR": str(data), "REGISTRY_CONFIG": str(config)} | environment,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    scheme, name = "http" if verify is None else "https", f"[{host}]" if ":" in host else host
    transport = None if unix_socket is None else httpx.HTTPTransport(uds=str(unix_socket))
    url, certificates = f"{scheme}://{name}:{port}", verify or True
    with httpx.Client(base_url=url, timeout=30, verify=certificates, transport=transport) as client:
        try:
            wait_for(lambda: process.poll() is not None or (listens(unix_socket) and is_ready(client)), 40)
            assert process.poll() is None, log.read_text()
            yield RunningApi(process, client, log)
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                process.wait(40)


def create_key(folder: Path, *scopes: str) -> str:
    """Creates an API key for the service with this data folder and returns it."""
    environment = os.environ | {"REGISTRY_DATA_DIR": str(folder), "REGISTRY_CONFIG": str(folder / "service.yaml")}
    options = [f"--scope={scope}" for scope in scopes]
    result = subprocess.run(
        [sys.executable, "-m", "service", "keys", "create", *options],
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return result.stdout.split()[-1]


TOKEN = "the-token-of-the-tests"


class RunningWorker:
    """Runs `python -m service worker` on a fixed port. Can be killed and started again."""

    def __init__(self, log: Path, **environment: str) -> None:
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.log = log
        self._environment = {"REGISTRY_INFERENCE__WORKER_TOKEN": TOKEN} | environment
        self.process: subprocess.Popen[bytes]

    def start(self) -> None:
        with self.log.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "service", "worker", "--port", str(self.port)],
                env=os.environ | self._environment,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        with httpx.Client(base_url=self.url, headers={"authorization": f"Bearer {TOKEN}"}) as client:
            wait_for(lambda: self.process.poll() is not None or is_ready(client), 40)
        assert self.process.poll() is None, self.log.read_text()

    def stop(self) -> None:
        """Sends SIGTERM, like an orchestrator, and waits for the end."""
        self.process.terminate()
        self.process.wait(40)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def listens(unix_socket: Path | None) -> bool:
    """Returns True if a process listens on the socket. A refused connection of httpcore would leave a socket open."""
    if unix_socket is None:
        return True
    with socket.socket(socket.AF_UNIX) as client:
        return client.connect_ex(str(unix_socket)) == 0


def is_ready(client: httpx.Client) -> bool:
    try:
        return client.get("/readyz", timeout=5).status_code == 200
    except httpx.TransportError:
        return False


def wait_for(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"the condition is still false after {seconds} s"
        time.sleep(0.05)


def wait_until_gone(root: Path) -> None:
    """Waits until no keeper and no server of the folder is running."""
    wait_for(lambda: processes_of(root) == [], 20)


def lease(root: Path) -> "subprocess.Popen[str]":
    """Starts a process that leases the embedded server until its standard input ends. Returns when it has the lease."""
    process = subprocess.Popen(
        [sys.executable, "-c", LEASE, str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("postgresql"), process.communicate()[1]
    return process


def end(process: "subprocess.Popen[str]") -> int:
    """Ends a leasing process in an orderly way. Returns its exit status."""
    process.communicate("", timeout=40)
    return process.returncode


def processes_of(root: Path) -> list[psutil.Process]:
    """Returns the running keeper and server processes of a folder."""
    processes = []
    for process in psutil.process_iter(["cmdline", "cwd", "status"]):
        command = " ".join(process.info["cmdline"] or [])
        if process.info["status"] != psutil.STATUS_ZOMBIE and (
            (str(root) in command and ("keeper" in command or "postgres" in command))
            or process.info["cwd"] == str(root / "data")
        ):  # fmt: skip
            processes.append(process)
    return processes


def keeper_of(root: Path) -> psutil.Process:
    # `info` is used because a short-lived server process of the list may have ended since.
    return next(process for process in processes_of(root) if "keeper" in " ".join(process.info["cmdline"] or []))


def server_of(root: Path) -> psutil.Process:
    return psutil.Process(int((root / "data" / "postmaster.pid").read_text().splitlines()[0]))
