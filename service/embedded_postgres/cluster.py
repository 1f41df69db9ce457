"""One PostgreSQL data folder and the server on it: made, started, stopped, cleared after a crash."""

import contextlib
import ctypes
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
from sqlalchemy import URL

from service.embedded_postgres.account import Account
from service.errors import StartupError

MAJOR_VERSION = "18"
SUPERUSER = "postgres"
PORT = 5432
"""Names the socket; there is no TCP."""
DATABASE = "registry"
READY = "ready"
LONGEST_SOCKET_PATH = 107
"""Bytes in sockaddr_un.sun_path, less the closing zero."""
FREE_SPACE_NEEDED = 160 * 1024**2
"""Bytes: a new cluster takes about 40 MB and its write-ahead log grows by 16 MB at a time."""
PR_SET_PDEATHSIG = 1
START_TIMEOUT_S = 120.0
STOP_TIMEOUT_S = 30.0

SETTINGS = {
    "listen_addresses": "",
    "max_connections": "100",
    "shared_buffers": "128MB",
    "maintenance_work_mem": "256MB",
    "max_wal_size": "1GB",
    # Statements hold embeddings and labels: they never go to the log.
    "log_min_error_statement": "panic",
    "log_parameter_max_length": "0",
    "log_parameter_max_length_on_error": "0",
}


class Cluster:
    """The files below `root`: `data/`, `server.log_format`, and a socket folder that is short enough for the kernel."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.data = root / "data"
        self.log = root / "server.log_format"
        self.socket_folder = _socket_folder(root)
        self._pid_file = self.data / "postmaster.pid"

    @property
    def url(self) -> str:
        """SQLAlchemy's address of the registry's database."""
        where = {"host": str(self.socket_folder), "port": str(PORT)}
        return URL.create("postgresql+psycopg", SUPERUSER, database=DATABASE, query=where).render_as_string()

    @property
    def is_ready(self) -> bool:
        """Whether the server says in its pid file that it takes connections."""
        try:
            lines = self._pid_file.read_text().splitlines()
            return len(lines) > 7 and lines[7].strip() == READY and psutil.pid_exists(int(lines[0]))
        except (OSError, ValueError):
            return False

    def create(self, programs: Path, account: Account) -> None:
        """Make the data folder if there is none. It appears whole or not at all."""
        if self.data.exists():
            self._require_our_version()
            return
        free = shutil.disk_usage(self.root).free
        if free < FREE_SPACE_NEEDED:
            raise StartupError(
                f"{self.root} has {free / 1024**2:.0f} MB free; a new database needs "
                f"{FREE_SPACE_NEEDED / 1024**2:.0f} MB. Make room or choose another data folder with REGISTRY_DATA_DIR."
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
        made = subprocess.run(
            [str(part) for part in initdb],
            cwd="/",
            capture_output=True,
            text=True,
            check=False,
            **account.switch,  # type: ignore[call-overload]
        )
        if made.returncode != 0:
            shutil.rmtree(partial, ignore_errors=True)
            raise StartupError(f"The embedded database could not be made: {_last_line(made.stderr or made.stdout)}")
        partial.rename(self.data)

    def start(self, programs: Path, account: Account) -> "subprocess.Popen[bytes]":
        """Start the server as a child that dies with us, and wait until it takes connections."""
        self.clear_leftovers()
        self.socket_folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        if self.socket_folder.is_symlink() or self.socket_folder.stat().st_uid not in {os.geteuid(), account.uid}:
            raise StartupError(f"{self.socket_folder} belongs to somebody else; choose another data folder")
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
                preexec_fn=_die_with_parent,
                **account.switch,  # type: ignore[call-overload]
            )
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self.is_ready:
            if server.poll() is not None:
                raise StartupError(f"The embedded database stopped while starting: {self._log_since(log_start)}")
            if time.monotonic() > deadline:
                stop(server)
                raise StartupError(f"The embedded database was not ready after {START_TIMEOUT_S:g} s; see {self.log}")
            time.sleep(0.02)
        return server

    def clear_leftovers(self) -> None:
        """End what an earlier keeper left running on the data folder, then remove its pid and socket lock files.

        A pid in a stale file may belong to a stranger by now, so a process counts only if it is a `postgres` that was
        started on the data folder or works in it.
        """
        for process in self.processes():
            if process.pid == self._recorded_pid():
                _signal(process, signal.SIGINT)
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while processes := self.processes():
            if time.monotonic() > deadline:
                for process in processes:
                    _signal(process, signal.SIGKILL)
            time.sleep(0.05)
        self._pid_file.unlink(missing_ok=True)
        for name in (".s.PGSQL.5432", ".s.PGSQL.5432.lock"):
            (self.socket_folder / name).unlink(missing_ok=True)

    def processes(self) -> list[psutil.Process]:
        """PostgreSQL's processes on the data folder.

        The server is known by its command line, which anybody may read; its children, when it has died, by their
        working folder.
        """
        data = str(self.data.resolve())
        found = []
        for process in psutil.process_iter(["name", "cmdline", "cwd", "status"]):
            about = process.info
            if about["status"] == psutil.STATUS_ZOMBIE or not (about["name"] or "").startswith("postgres"):
                continue
            if about["cwd"] == data or str(self.data) in (about["cmdline"] or []):
                found.append(process)
        return found

    def _recorded_pid(self) -> int | None:
        try:
            return int(self._pid_file.read_text().splitlines()[0])
        except (OSError, ValueError, IndexError):
            return None

    def _require_our_version(self) -> None:
        try:
            version = (self.data / "PG_VERSION").read_text().strip()
        except FileNotFoundError:
            raise StartupError(
                f"{self.data} is not a PostgreSQL data folder; move it away or choose another one"
            ) from None
        if version != MAJOR_VERSION:
            raise StartupError(
                f"{self.data} was made by PostgreSQL {version} and this release brings {MAJOR_VERSION}. Dump it with "
                "the old release and restore it with this one, or choose another data folder with REGISTRY_DATA_DIR."
            )

    def _log_since(self, position: int) -> str:
        with self.log.open("rb") as log:
            log.seek(position)
            text = log.read().decode(errors="replace")
        if "No space left on device" in text:
            return f"no space is left in {self.root}"
        fatal = [line for line in text.splitlines() if "FATAL" in line or "PANIC" in line]
        return fatal[0] if fatal else _last_line(text)


def stop(server: "subprocess.Popen[bytes]") -> None:
    """Fast shutdown: clients are disconnected, everything committed is on disk."""
    if server.poll() is not None:
        return
    server.send_signal(signal.SIGINT)
    try:
        server.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)
        server.wait()


def _socket_folder(root: Path) -> Path:
    folder = root / "socket"
    if len(os.fsencode(folder / ".s.PGSQL.5432.lock")) <= LONGEST_SOCKET_PATH:
        return folder
    digest = hashlib.sha256(os.fsencode(root.resolve())).hexdigest()[:12]
    return Path("/tmp") / f"identity-registry-{os.geteuid()}-{digest}"  # noqa: S108  its owner is checked


def _die_with_parent() -> None:
    """In the child, after it changed its account: Linux interrupts it when its parent dies. No such thing elsewhere."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def _signal(process: psutil.Process, number: int) -> None:
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it printed nothing"
