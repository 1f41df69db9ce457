"""Leases on the embedded server. The server runs as long as any process holds a lease."""

import errno
import logging
import os
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import TracebackType

import psycopg
from psycopg import sql

from service.embedded_postgres.account import server_account
from service.embedded_postgres.binaries import require_supported_cpu
from service.embedded_postgres.cluster import DATABASE, PORT, START_TIMEOUT_S, SUPERUSER, Cluster
from service.embedded_postgres.keeper import Locks
from service.embedded_postgres.processes import STOP_TIMEOUT_S
from service.errors import StartupError

WATCH_S = 0.25
log = logging.getLogger(__name__)


class EmbeddedPostgres:
    """PostgreSQL with pgvector in the folder `root`, shared by all processes that lease it.

        with EmbeddedPostgres(folder) as url:
            ...

    A thread watches the keeper and starts a new one if it is killed while this process holds the lease.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._cluster = Cluster(self._root)
        self._released = threading.Event()
        self._watcher: threading.Thread | None = None

    def start(self) -> str:
        """Acquires the lease, starts the server unless it runs, and returns the SQLAlchemy URL of the database.

        Raises:
            StartupError: the CPU is not supported, the folder is not usable, or the server cannot be started.
        """
        require_supported_cpu()
        self._prepare_folder()
        self._locks = Locks(self._root)
        self._lease()
        try:
            self._create_database()
        except BaseException:
            self._locks.lease.release()
            raise
        self._watcher = threading.Thread(target=self._watch, name="embedded-postgres", daemon=True)
        self._watcher.start()
        return self._cluster.url

    def stop(self) -> None:
        """Releases the lease. If it is the last one, waits up to 30 seconds until the server has stopped."""
        if self._watcher is None:
            return
        self._released.set()
        self._watcher.join()
        self._watcher = None
        self._locks.lease.release()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while not self._locks.keeping.is_free() and time.monotonic() < deadline:
            if self._is_leased_elsewhere():
                return
            time.sleep(0.02)

    def _prepare_folder(self) -> None:
        account = server_account()
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            if not account.is_current:
                self._root.chmod(0o711)
            probe = self._root / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StartupError(self._folder_problem(error)) from error
        account.require_parents_accessible(self._cluster.data)

    def _folder_problem(self, error: OSError) -> str:
        reason = {
            errno.EROFS: "is on a file system that is mounted read-only",
            errno.ENOSPC: "is on a file system with no space left",
            errno.EACCES: "is not writable by this account",
            errno.EPERM: "is not writable by this account",
        }.get(error.errno or 0, f"is not usable ({error.strerror})")
        return f"The data folder {self._root} {reason}. Choose another one with REGISTRY_DATA_DIR."

    def _lease(self) -> None:
        """Acquires the lease and starts the server if necessary. The starting lock prevents a keeper from stopping."""
        try:
            self._locks.starting.acquire(timeout_s=START_TIMEOUT_S)
            self._locks.lease.acquire(shared=True, timeout_s=START_TIMEOUT_S)
        except TimeoutError as error:
            raise StartupError(
                f"Another process has been starting the embedded database for too long: {error}"
            ) from error
        try:
            self._ensure_running()
        except BaseException:
            self._locks.lease.release()
            raise
        finally:
            self._locks.starting.release()

    def _ensure_running(self) -> None:
        """Starts a keeper unless one runs, and returns when the server accepts a connection.

        Retries, because shortly after a keeper was killed its lock is still held and the pid file of its server still
        says "ready", although the server no longer accepts connections.
        """
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            if self._locks.keeping.is_free():
                self._launch_keeper()
            self._await_ready()
            try:
                self._connect().close()
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    raise StartupError(f"The embedded database accepts no connections: {error}") from error
                time.sleep(0.05)
            else:
                return

    def _connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(
            host=str(self._cluster.socket_folder), port=PORT, user=SUPERUSER, dbname="postgres", autocommit=True
        )

    def _launch_keeper(self) -> None:
        command = [sys.executable, "-m", "service.embedded_postgres.keeper", str(self._root)]
        process = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True, check=False
        )
        if process.returncode != 0:
            raise StartupError(process.stderr.strip() or "The keeper of the embedded database could not be started")

    def _await_ready(self) -> None:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not self._cluster.is_ready:
            if time.monotonic() > deadline:
                raise StartupError(f"The embedded database did not become ready; see {self._cluster.log}")
            time.sleep(0.02)

    def _create_database(self) -> None:
        with self._connect() as db:
            if db.execute("SELECT 1 FROM pg_database WHERE datname = %s", [DATABASE]).fetchone() is None:
                try:
                    db.execute(sql.SQL("CREATE DATABASE {}").format(sql.Identifier(DATABASE)))
                except (psycopg.errors.DuplicateDatabase, psycopg.errors.UniqueViolation):
                    log.debug("another process created the database first")

    def _watch(self) -> None:
        while not self._released.wait(WATCH_S):
            if self._locks.keeping.is_free():
                log.warning("the keeper of the embedded database has ended; starting a new one")
                try:
                    self._relaunch()
                except (StartupError, OSError) as error:  # a TimeoutError is an OSError
                    log.error("the embedded database cannot be restarted: %s", error)

    def _relaunch(self) -> None:
        self._locks.starting.acquire(timeout_s=START_TIMEOUT_S)
        try:
            if self._locks.keeping.is_free():
                self._launch_keeper()
        finally:
            self._locks.starting.release()

    def _is_leased_elsewhere(self) -> bool:
        """Returns True if other processes hold the lease. Only a keeper that is about to stop holds it exclusively."""
        if not self._locks.lease.is_free():
            with Locks(self._root).lease as other:
                return other.try_shared()
        return False

    def __enter__(self) -> str:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()
