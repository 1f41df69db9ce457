"""Memory that a decoder process shares with its parent. Pixels pass through it without a copy.

A buffer is mapped once and used for many pictures, because the first access to each page of new memory is slow.
"""

import contextlib
import ctypes
import mmap
import os
import sys
import tempfile
import weakref
from collections.abc import Callable

import numpy as np

from service.vision.image import Pixels

MADV_POPULATE_READ = 22
"""Linux 5.14; Python has no name for it."""
KEPT_BYTES = 36 * 1024**2
"""Bytes of a buffer that stay allocated between two pictures: those of 12 megapixels."""


class SharedBuffer:
    """A shared buffer, of which only the used part takes memory.

    Args:
        descriptor: file of the buffer.
        size: bytes.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self._memory = mmap.mmap(descriptor, size)

    def view(self, height: int, width: int) -> Pixels:
        """Returns the first bytes of the buffer as (height, width, 3) pixels."""
        return np.frombuffer(self._memory, np.uint8, height * width * 3).reshape(height, width, 3)

    def lend(self, height: int, width: int, release: Callable[[], None]) -> Pixels:
        """Returns pixels like `view`, and calls `release` when nothing refers to them any more.

        Raises:
            ValueError: the buffer is smaller.
        """
        size = height * width * 3
        if size > KEPT_BYTES:
            self._populate(size)
        owner = (ctypes.c_uint8 * size).from_buffer(self._memory)
        weakref.finalize(owner, self._release, size, release).atexit = False
        return np.frombuffer(memoryview(owner), np.uint8).reshape(height, width, 3)

    def _populate(self, size: int) -> None:
        """Maps the pages of a large picture at once: the thread that reads them first would wait for each page."""
        with contextlib.suppress(OSError, ValueError):  # the kernel is older than 5.14
            self._memory.madvise(MADV_POPULATE_READ, 0, size)

    def _release(self, used: int, release: Callable[[], None]) -> None:
        if used > KEPT_BYTES and hasattr(mmap, "MADV_REMOVE"):
            self._memory.madvise(mmap.MADV_REMOVE, KEPT_BYTES, len(self._memory) - KEPT_BYTES)
        release()


def create_file(size: int) -> int:
    """Returns the descriptor of a new file without a name, in memory where possible. Its size cannot change there.

    A process that reads behind the end of a mapped file crashes, so a decoder must not be able to shorten it.
    """
    if sys.platform != "linux":
        with tempfile.TemporaryFile() as file:
            os.ftruncate(file.fileno(), size)
            return os.dup(file.fileno())
    import fcntl

    descriptor = os.memfd_create("pixels", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    os.ftruncate(descriptor, size)
    fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_SEAL)
    return descriptor
