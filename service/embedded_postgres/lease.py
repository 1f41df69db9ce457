"""A lease on the embedded server: while one is held anywhere, the server runs."""

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
from service.embedded_postgres.cluster import DATABASE, PORT, START_TIMEOUT_S, STOP_TIMEOUT_S, SUPERUSER, Cluster
from service.embedded_postgres.keeper import Locks
from service.errors import StartupError

WATCH_S = 0.25
log = logging.getLogger(__name__)


class EmbeddedPostgres:
    """PostgreSQL with pgvector below `root`, shared by every process that leases it.

        with EmbeddedPostgres(folder) as url:
            ...

    The lease watches: a keeper that dies while we hold the lease is replaced.
    """

    def __init__(self, root: Path) -> None:
        self._root = root.absolute()
        self._cluster = Cluster(self._root)
        self._released = threading.Event()
        self._watcher: threading.Thread | None = None

    def start(self) -> str:
        """Take the lease, start the server if nobody has, and return the database's URL.

        Raises:
            StartupError: the processor, the folder or the server in it doesn't allow it; the words say what to do.
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
        """Give the lease back. The last one to do so returns when the server has stopped."""
        if self._watcher is None:
            return
        self._released.set()
        self._watcher.join()
        self._watcher = None
        self._locks.lease.release()
        deadline = time.monotonic() + STOP_TIMEOUT_S
        while not self._locks.keeping.is_free() and time.monotonic() < deadline:
            if self._someone_else_leases():
                return
            time.sleep(0.02)

    def _prepare_folder(self) -> None:
        account = server_account()
        try:
            self._root.mkdir(parents=True, exist_ok=True)
            if not account.is_ours:
                self._root.chmod(0o711)
            probe = self._root / f".writable-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise StartupError(self._folder_problem(error)) from error
        account.require_way_to(self._cluster.data)

    def _folder_problem(self, error: OSError) -> str:
        reason = {
            errno.EROFS: "is on a file system that is mounted read-only",
            errno.ENOSPC: "is on a file system with no space left",
            errno.EACCES: "may not be written by this account",
            errno.EPERM: "may not be written by this account",
        }.get(error.errno or 0, f"can't be used ({error.strerror})")
        return f"The data folder {self._root} {reason}. Choose another one with REGISTRY_DATA_DIR."

    def _lease(self) -> None:
        """Hold the lease on a running server. Under the starting lock no keeper can be about to stop."""
        try:
            self._locks.starting.acquire(timeout_s=START_TIMEOUT_S)
            self._locks.lease.acquire(shared=True, timeout_s=START_TIMEOUT_S)
        except TimeoutError as error:
            raise StartupError(
                f"Another process has been starting the embedded database for too long: {error}"
            ) from error
        try:
            self._bring_up()
        except BaseException:
            self._locks.lease.release()
            raise
        finally:
            self._locks.starting.release()

    def _bring_up(self) -> None:
        """Return when the server answers. A keeper that was killed a moment ago still holds its lock, and its server's
        file still says that it is ready: then nobody answers, and we look again."""
        deadline = time.monotonic() + START_TIMEOUT_S
        while True:
            if self._locks.keeping.is_free():
                self._launch_keeper()
            self._await_ready()
            try:
                self._connect().close()
            except psycopg.OperationalError as error:
                if time.monotonic() > deadline:
                    raise StartupError(f"The embedded database does not answer: {error}") from error
                time.sleep(0.05)
            else:
                return

    def _connect(self) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(
            host=str(self._cluster.socket_folder), port=PORT, user=SUPERUSER, dbname="postgres", autocommit=True
        )

    def _launch_keeper(self) -> None:
        command = [sys.executable, "-m", "service.embedded_postgres.keeper", str(self._root)]
        launched = subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, start_new_session=True, check=False
        )
        if launched.returncode != 0:
            raise StartupError(launched.stderr.strip() or "The embedded database's keeper could not be started")

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
                    log.debug("another process made the database first")

    def _watch(self) -> None:
        while not self._released.wait(WATCH_S):
            if self._locks.keeping.is_free():
                log.warning("the embedded database's keeper is gone; starting another")
                try:
                    self._relaunch()
                except (StartupError, OSError) as error:  # a TimeoutError is an OSError
                    log.error("the embedded database can't be started again: %s", error)

    def _relaunch(self) -> None:
        self._locks.starting.acquire(timeout_s=START_TIMEOUT_S)
        try:
            if self._locks.keeping.is_free():
                self._launch_keeper()
        finally:
            self._locks.starting.release()

    def _someone_else_leases(self) -> bool:
        """Whether the lease is shared by others. Its only exclusive holder is the keeper that is about to stop."""
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
