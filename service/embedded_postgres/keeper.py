"""The keeper: a small process that owns the embedded server for as long as anybody uses it.

It has a session of its own, so that a Ctrl-C in a terminal reaches the API and not the database under it. Users hold a
shared lock on the lease file; the kernel drops it however they die. When nobody holds it, the keeper stops the server
and ends. A server that dies is started again; when the keeper dies, the server dies with it, and whoever still uses it
starts a new keeper.

    python -m service.embedded_postgres.keeper FOLDER

returns when the server is ready (exit status 0) or tells on standard error why it can't be (exit status 1).
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
from service.embedded_postgres.cluster import Cluster, stop
from service.embedded_postgres.locks import FileLock
from service.errors import StartupError

POLL_S = 0.1
RESTARTS_ALLOWED = 5
RESTART_WINDOW_S = 60.0


class Locks:
    """`starting`: one at a time changes who runs. `lease`: shared by all users. `keeping`: held by the one keeper."""

    def __init__(self, root: Path) -> None:
        self.starting = FileLock(root / "starting.lock")
        self.lease = FileLock(root / "lease.lock")
        self.keeping = FileLock(root / "keeping.lock")


class Keeper:
    """Runs one server until nobody needs it."""

    def __init__(self, root: Path) -> None:
        self._locks = Locks(root)
        self._cluster = Cluster(root)
        self._account: Account = server_account()
        self._programs = install_programs(root, self._account)
        self._restarts: list[float] = []
        self._told_to_stop = False
        self._server: Popen[bytes]

    def start(self) -> None:
        """Bring the server up.

        Raises:
            StartupError: it can't be, or another keeper has the folder.
        """
        if not self._locks.keeping.try_exclusive():
            raise StartupError("another keeper runs this database already")
        self._cluster.create(self._programs, self._account)
        self._server = self._cluster.start(self._programs, self._account)

    def keep(self) -> None:
        """Return when the server has stopped for good."""
        signal.signal(signal.SIGTERM, self._note_stop)
        while not self._told_to_stop and not self._abandoned():
            if self._server.poll() is not None:
                self._restart()
            time.sleep(POLL_S)
        stop(self._server)

    def _abandoned(self) -> bool:
        """Whether nobody uses the server. If so, both locks stay ours: a newcomer waits until we are gone."""
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
            raise StartupError(f"the database died {len(self._restarts)} times within {RESTART_WINDOW_S:g} s")
        self._server = self._cluster.start(self._programs, self._account)

    def _note_stop(self, number: int, frame: FrameType | None) -> None:
        self._told_to_stop = True


def main(root: Path) -> int:
    """Start the keeper in the background; report once its server is ready."""
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
    problem = "the keeper ended without a word"
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
    nothing = os.open(os.devnull, os.O_RDWR)
    target = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
    os.dup2(nothing, 0)
    os.dup2(target, 1)
    os.dup2(target, 2)


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
