"""The keeper: a background process that runs the embedded server as long as any process uses it.

Processes that use the server hold a shared lock on the lease file, which the kernel releases when they end. When no
process holds the lock, the keeper stops the server and exits. The keeper restarts a server that crashes. When the
keeper itself is killed, the kernel stops the server, and a process that still uses it starts a new keeper.

The keeper has its own session, so that Ctrl-C in a terminal does not stop the database before the API.

    python -m service.embedded_postgres.keeper FOLDER

exits with status 0 when the server is ready, or with status 1 and the reason on standard error.
"""

import os
import signal
import sys
import time
from pathlib import Path
from subprocess import Popen
from types import FrameType

from service.embedded_postgres.account import Account, server_account
from service.embedded_postgres.binaries import install_programs
from service.embedded_postgres.cluster import Cluster
from service.embedded_postgres.locks import FileLock
from service.embedded_postgres.processes import stop
from service.errors import StartupError

POLL_S = 0.1
RESTARTS_ALLOWED = 5
RESTART_WINDOW_S = 60.0


class Locks:
    """The lock files of a database folder.

    Attributes:
        starting: held while a process starts a keeper or a keeper decides to stop.
        lease: shared by all processes that use the server.
        keeping: held by the keeper.
    """

    def __init__(self, root: Path) -> None:
        self.starting = FileLock(root / "starting.lock")
        self.lease = FileLock(root / "lease.lock")
        self.keeping = FileLock(root / "keeping.lock")


class Keeper:
    """Runs one server until no process uses it."""

    def __init__(self, root: Path) -> None:
        self._locks = Locks(root)
        self._cluster = Cluster(root)
        self._account: Account = server_account()
        self._programs = install_programs(root, self._account)
        self._restarts: list[float] = []
        self._stop_requested = False
        self._server: Popen[bytes]

    def start(self) -> None:
        """Starts the server, and creates its data folder if necessary.

        Raises:
            StartupError: the server cannot be started, or another keeper uses the folder.
        """
        if not self._locks.keeping.try_exclusive():
            raise StartupError("another keeper already runs this database")
        self._cluster.create(self._programs, self._account)
        self._server = self._cluster.start(self._programs, self._account)

    def keep(self) -> None:
        """Restarts the server when it crashes, until it is no longer used. Returns when the server has stopped."""
        signal.signal(signal.SIGTERM, self._request_stop)
        while not self._stop_requested and not self._abandoned():
            if self._server.poll() is not None:
                self._restart()
            time.sleep(POLL_S)
        stop(self._server)

    def _abandoned(self) -> bool:
        """Returns True if no process uses the server.

        The keeper then holds both locks until it exits, so that a new user of the server waits for that.
        """
        if not self._locks.starting.try_exclusive():
            return False
        if self._locks.lease.try_exclusive():
            return True
        self._locks.starting.release()
        return False

    def _restart(self) -> None:
        now = time.monotonic()
        self._restarts = [moment for moment in self._restarts if now - moment < RESTART_WINDOW_S] + [now]
        if len(self._restarts) > RESTARTS_ALLOWED:
            raise StartupError(
                f"the database crashed {len(self._restarts)} times within {RESTART_WINDOW_S:g} s; see server.log"
            )
        self._server = self._cluster.start(self._programs, self._account)

    def _request_stop(self, number: int, frame: FrameType | None) -> None:
        self._stop_requested = True


def main(root: Path) -> int:
    """Starts the keeper in the background and waits until its server is ready (returns 0) or has failed (returns 1)."""
    outcome, report = os.pipe()
    if os.fork():
        os.close(report)
        with os.fdopen(outcome) as reader:
            problem = reader.read()
        sys.stderr.write(problem)
        return 1 if problem else 0
    os.close(outcome)
    os.setsid()
    _detach(root / "keeper.log")
    keeper: Keeper | None = None
    problem = "the keeper exited without an error message; see keeper.log"
    try:
        keeper = Keeper(root)
        keeper.start()
        problem = ""
    except (StartupError, OSError) as error:
        problem = str(error)
    finally:
        with os.fdopen(report, "w") as writer:
            writer.write(problem)
    if keeper is not None and not problem:
        keeper.keep()
    return 0


def _detach(log: Path) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    os.chdir("/")
    null = os.open(os.devnull, os.O_RDWR)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(null, 0)
    os.dup2(target, 1)
    os.dup2(target, 2)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
