"""A PostgreSQL cluster: creates its data folder, starts and stops its server, and cleans up after a crash."""

import hashlib
import os
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
from sqlalchemy import URL

from service.embedded_postgres.account import Account
from service.embedded_postgres.processes import STOP_TIMEOUT_S, die_with_parent, postgres_processes, send_signal, stop
from service.errors import StartupError
from service.memory import total_bytes

MAJOR_VERSION = "18"
SUPERUSER = "postgres"
PORT = 5432
"""Part of the name of the Unix socket. The server does not listen on TCP."""
DATABASE = "registry"
READY = "ready"
MAX_SOCKET_PATH = 107
"""Bytes: the size of sockaddr_un.sun_path without the terminating zero."""
MIN_FREE_SPACE = 160 * 1024**2
"""Bytes: a new cluster takes about 40 MB, and its write-ahead log grows in steps of 16 MB."""
START_TIMEOUT_S = 120.0

MIN_BUFFERS_MB, MAX_BUFFERS_MB = 128, 1024


def _shared_buffers_mb() -> int:
    """Returns the size of PostgreSQL's cache: an eighth of the memory. The system provides it when it is used."""
    return min(MAX_BUFFERS_MB, max(MIN_BUFFERS_MB, total_bytes() // 8 // 1024**2))


SETTINGS = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": f"{_shared_buffers_mb()}MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "1GB",
    # Statements contain embeddings and labels and must not appear in the log.
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}


class Cluster:
    """The cluster in the folder `root`: `data/`, `server.log` and the folder of the Unix socket.

    The socket folder is in /tmp if its path below `root` would be too long.
    """

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.log = root / "server.log"
        self.socket_folder = _socket_folder(root)
        self._pid_file = self.data / "postmaster.pid"

    @property
    def url(self) -> str:
        """The SQLAlchemy URL of the registry's database."""
        socket = {"host": str(self.socket_folder), "port": str(PORT)}
        return URL.create("postgresql+psycopg", SUPERUSER, database=DATABASE, query=socket).render_as_string()

    @property
    def is_ready(self) -> bool:
        """True if the pid file of the server states that it accepts connections."""
        try:
            lines = self._pid_file.read_text().splitlines()
            return len(lines) > 7 and lines[7].strip() == READY and psutil.pid_exists(int(lines[0]))
        except (OSError, ValueError):
            return False

    def create(self, programs: Path, account: Account) -> None:
        """Creates the data folder unless it exists. A failure leaves no incomplete folder.

        Raises:
            StartupError: the disk is full, initdb fails, or the existing folder is of another version.
        """
        if self.data.exists():
            self._check_version()
            return
        free = shutil.disk_usage(self.root).free
        if free < MIN_FREE_SPACE:
            raise StartupError(
                f"{self.root} has {free / 1024**2:.0f} MB free; a new database needs "
                f"{MIN_FREE_SPACE / 1024**2:.0f} MB. Free space, or choose another data folder with REGISTRY_DATA_DIR."
            )
        partial = self.root / "data.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        account.own(partial)
        initdb = [
            programs / "initdb",
            "-D",
            partial,
            "-U",
            SUPERUSER,
            "--auth=trust",
            "--locale=C.UTF-8",
            "--encoding=UTF8",
        ]
        process = subprocess.run(
            [str(part) for part in initdb],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            **account.switch,  # type: ignore[call-overload]
        )
        if process.returncode != 0:
            shutil.rmtree(partial, ignore_errors=True)
            raise StartupError(
                f"The embedded database could not be created: {_last_line(process.stderr or process.stdout)}"
            )
        partial.rename(self.data)

    def start(self, programs: Path, account: Account) -> "subprocess.Popen[bytes]":
        """Starts the server as a child process and waits until it accepts connections.

        On Linux the kernel stops the server when this process ends.

        Raises:
            StartupError
        """
        self.clear_leftovers()
        self.socket_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.socket_folder.is_symlink() or self.socket_folder.stat().st_uid not in {os.geteuid(), account.uid}:
            raise StartupError(
                f"{self.socket_folder} is owned by another account; choose another data folder with REGISTRY_DATA_DIR."
            )
        account.own(self.socket_folder)
        command = [str(programs / "postgres"), "-D", str(self.data), "-k", str(self.socket_folder), "-p", str(PORT)]
        for name, value in SETTINGS.items():
            command += ["-c", f"{name}={value}"]
        with self.log.open("ab") as log:
            log_start = log.tell()
            server = subprocess.Popen(
                command,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                preexec_fn=die_with_parent,
                **account.switch,  # type: ignore[call-overload]
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.is_ready:
            if server.poll() is not None:
                raise StartupError(f"The embedded database failed to start: {self._log_since(log_start)}")
            if time.monotonic() > deadline:
                stop(server)
                raise StartupError(f"The embedded database was not ready after {START_TIMEOUT_S:g} s; see {self.log}")
            time.sleep(0.02)
        return server

    def clear_leftovers(self) -> None:
        """Stops the processes that a killed keeper left behind, then removes the stale pid and socket lock files.

        The pid in a stale file may belong to an unrelated process. Therefore only `postgres` processes that use the
        data folder are stopped.
        """
        for process in self.processes():
            if process.pid == self._recorded_pid():
                send_signal(process, signal.SIGINT)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while processes := self.processes():
            if time.monotonic() > deadline:
                for process in processes:
                    send_signal(process, signal.SIGKILL)
            time.sleep(0.05)
        self._pid_file.unlink(missing_ok=True)
        for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
            (self.socket_folder / name).unlink(missing_ok=True)

    def processes(self) -> list[psutil.Process]:
        """Returns the PostgreSQL processes that use the data folder."""
        return postgres_processes(self.data)

    def _recorded_pid(self) -> int | None:
        try:
            return int(self._pid_file.read_text().splitlines()[0])
        except (OSError, ValueError, IndexError):
            return None

    def _check_version(self) -> None:
        try:
            version = (self.data / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            raise StartupError(
                f"{self.data} is not a PostgreSQL data folder. Move it, or choose another data folder with "
                "REGISTRY_DATA_DIR."
            ) from None
        if version != MAJOR_VERSION:
            raise StartupError(
                f"{self.data} belongs to PostgreSQL {version}, and this release contains PostgreSQL {MAJOR_VERSION}. "
                "Back up the registry with the old release and restore it with this one, or choose another data folder "
                "with REGISTRY_DATA_DIR."
            )

    def _log_since(self, position: int) -> str:
        with self.log.open("rb") as log:
            log.seek(position)
            text = log.read().decode(errors="replace")
        if "No space left on device" in text:
            return f"no space is left on the disk of {self.root}"
        fatal = [line for line in text.splitlines() if "FATAL" in line or "PANIC" in line]
        return fatal[0] if fatal else _last_line(text)


def _socket_folder(root: Path) -> Path:
    folder = root / "socket"
    if len(os.fsencode(folder / ".s.PGSQL.5432.lock")) <= MAX_SOCKET_PATH:
        return folder
    digest = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:12]
    return Path("/tmp") / f"identity-registry-{os.geteuid()}-{digest}"  # noqa: S108  `start` checks its owner


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "there was no output"
