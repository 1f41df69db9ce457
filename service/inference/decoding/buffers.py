"""Memory that a decoder process shares with its parent. Pixels pass through it without a copy.

A buffer is mapped once and used for many pictures, because the first access to each page of new memory is slow.
"""

import ctypes
import mmap
import os
import sys
import tempfile
import weakref
from collections.abc import Callable

import numpy as np

from service.vision.image import Pixels

_MADVISE = ctypes.CDLL(None).madvise
KEPT_BYTES = 12 * 1024**2
"""Bytes of a buffer that stay allocated between two pictures: those of 4 megapixels."""
MADV_REMOVE, MADV_POPULATE_READ = 9, 22
"""Advice to Linux: free the memory of a file; map its pages (5.14). Other systems do without."""


class SharedBuffer:
    """A shared buffer, of which only the used part takes memory.

    Args:
        descriptor: file of the buffer.
        size: bytes.
    """

    def __init__(self, descriptor: int, size: int) -> None:
        self._memory, self._size, self._used = mmap.mmap(descriptor, size), size, 0

    def write(self, data: bytes) -> None:
        """Copies a file into the buffer, which must be large enough."""
        self._used = len(data)
        self._memory[: self._used] = data

    def read(self, size: int) -> bytes:
        """Returns a copy of the first bytes."""
        return self._memory[:size]

    def view(self, height: int, width: int) -> Pixels:
        """Returns the first bytes of the buffer as (height, width, 3) pixels."""
        return np.frombuffer(self._memory, np.uint8, height * width * 3).reshape(height, width, 3)

    def lend(self, height: int, width: int, release: Callable[[], None]) -> Pixels:
        """Returns pixels like `view`, and calls `release` when nothing refers to them any more.

        Raises:
            ValueError: the buffer is smaller.
        """
        self._used = size = height * width * 3
        if size > KEPT_BYTES:  # the thread that reads the pages first would wait for each one
            self._advise(MADV_POPULATE_READ, 0, size)
        owner = (ctypes.c_uint8 * size).from_buffer(self._memory)
        weakref.finalize(owner, release).atexit = False
        return np.frombuffer(memoryview(owner), np.uint8).reshape(height, width, 3)

    def shrink(self) -> None:
        """Frees memory after a large picture."""
        if self._used > KEPT_BYTES:
            self._advise(MADV_REMOVE, KEPT_BYTES, self._size - KEPT_BYTES)

    def _advise(self, advice: int, start: int, length: int) -> None:
        """Calls `madvise`, which takes milliseconds, without the interpreter's lock, which `mmap.madvise` keeps."""
        if sys.platform == "linux":
            address = ctypes.addressof(ctypes.c_char.from_buffer(self._memory))
            _MADVISE(ctypes.c_void_p(address + start), ctypes.c_size_t(length), advice)


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
