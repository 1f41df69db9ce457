"""Advisory file locks. The kernel releases them when the process that holds them ends."""

import fcntl
import os
import time
from pathlib import Path
from types import TracebackType
from typing import Self

POLL_S = 0.05


class FileLock:
    """A lock (`flock`) on a file. Several holders may share it; an exclusive holder excludes all others."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._descriptor: int | None = None

    def try_exclusive(self) -> bool:
        """Tries to acquire the lock exclusively, without waiting. Returns True if this object holds a lock."""
        return self._try(fcntl.LOCK_EX)

    def try_shared(self) -> bool:
        """Tries to share the lock, without waiting. Returns True if this object holds a lock."""
        return self._try(fcntl.LOCK_SH)

    def acquire(self, *, shared: bool = False, timeout_s: float) -> None:
        """Acquires the lock and waits up to `timeout_s` seconds for it.

        Raises:
            TimeoutError: another process still holds the lock.
        """
        deadline = time.monotonic() + timeout_s
        while not self._try(fcntl.LOCK_SH if shared else fcntl.LOCK_EX):
            if time.monotonic() > deadline:
                raise TimeoutError(f"{self._path} was locked for {timeout_s:g} s")
            time.sleep(POLL_S)

    def release(self) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def is_free(self) -> bool:
        """Returns True if no process holds the lock, shared or exclusive."""
        probe = FileLock(self._path)
        free = probe.try_exclusive()
        probe.release()
        return free

    def _try(self, kind: int) -> bool:
        if self._descriptor is not None:
            return True
        descriptor = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            return False
        self._descriptor = descriptor
        return True

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()
