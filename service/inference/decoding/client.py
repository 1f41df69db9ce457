"""The parent's side of one decoder process."""

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from service.errors import ImageTooCostly, ImageUnreadable, RegistryError, error_class
from service.inference.decoding.buffers import SharedBuffer, create_file
from service.inference.decoding.process import READY, REQUEST
from service.vision.image import DecodedPicture, ImageLimits, require_size

BUFFERS = 2
"""Buffers of one process: it decodes a picture while the previous one is recognised."""
MAX_ANSWER_BYTES = 4096
STARTUP_S = 60.0
"""Maximum time in which a process starts."""
ENDED_S = 5.0
"""Time after which a process that has closed its socket is killed."""
KEPT_MEMORY = {"MALLOC_MMAP_THRESHOLD_": str(32 * 1024**2), "MALLOC_TRIM_THRESHOLD_": str(96 * 1024**2)}
"""Settings of glibc: memory of up to 96 MB is used again for the next picture, which saves its first accesses."""


@dataclass(frozen=True, slots=True)
class DecoderLimits:
    """Limits of one picture: of its file, the CPU time of decoding in seconds, and the memory in bytes."""

    image: ImageLimits = field(default_factory=ImageLimits)
    cpu_s: float = 2.0
    memory_bytes: int = 1024**3


class DecoderProcess:
    """One decoder process, which decodes one picture at a time.

    Attributes:
        is_busy: a picture was sent to the process, and it has not answered.
    """

    def __init__(self, limits: DecoderLimits) -> None:
        self._limits = limits
        self.is_busy = self._is_ready = False
        self._connection, theirs = socket.socketpair()
        self._connection.settimeout(STARTUP_S)
        sizes = [limits.image.max_bytes] + [limits.image.max_pixels * 3] * BUFFERS
        files = [create_file(size) for size in sizes]
        self._file, *self._buffers = map(SharedBuffer, files, sizes)
        self._free, self._used = list(range(BUFFERS)), 0
        passed = [theirs.fileno(), *files]
        numbers = limits.image.max_bytes, limits.image.max_pixels, limits.cpu_s, limits.memory_bytes, *passed
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "service.inference.decoding.process", *map(str, numbers)],
                env=_environment(),
                stdin=subprocess.DEVNULL,
                pass_fds=passed,
            )
        finally:
            theirs.close()
            for file in files:
                os.close(file)

    @property
    def has_free_buffer(self) -> bool:
        return bool(self._free)

    def start(self, data: bytes, min_longer_side: int | None = None) -> None:
        """Passes a file to the process.

        Args:
            min_longer_side: as in `service.vision.image.decode_into`.

        Raises:
            RegistryError: the file is too large, or the process has ended.
        """
        require_size(data, self._limits.image)
        self.is_busy, self._used = True, self._free.pop()
        self._file.write(data)
        try:
            if not self._is_ready and not self._connection.recv(len(READY)):
                raise self._failure()
            self._is_ready = True
            self._connection.sendall(REQUEST.pack(self._used, len(data), min_longer_side or 0))
        except OSError:
            raise self._failure() from None

    def is_done(self, timeout_s: float) -> bool:
        """Waits up to `timeout_s` seconds for the answer; returns True if there is one or the process has ended."""
        return bool(select.select([self._connection], [], [], timeout_s)[0])

    def result(self, on_release: Callable[[Callable[[], None]], None]) -> DecodedPicture:
        """Returns the picture, without a copy of its pixels.

        Args:
            on_release: gets, when nothing refers to the pixels any more, the function that frees their buffer. The
                function takes milliseconds after a large picture.

        Raises:
            RegistryError: the error of the picture.
            ImageTooCostly: the kernel has killed the process because of the picture.
        """
        self._file.shrink()
        number, buffer = self._used, self._buffers[self._used]
        answer = self._receive()
        self.is_busy = False
        if "code" in answer:
            self._free.append(number)
            raise error_class(answer["code"])(answer["detail"])

        def free() -> None:
            buffer.shrink()
            self._free.append(number)

        pixels = buffer.lend(answer["rows"], answer["columns"], lambda: on_release(free))
        visible = None if answer["visible"] is None else tuple(answer["visible"])
        return DecodedPicture(pixels, answer["width"], answer["height"], visible)

    def _receive(self) -> dict[str, Any]:
        try:
            message = self._connection.recv(MAX_ANSWER_BYTES)
        except OSError:
            message = b""
        if not message.endswith(b"\n"):
            raise self._failure()
        answer: dict[str, Any] = json.loads(message)
        return answer

    @property
    def cpu_s(self) -> float:
        """CPU time of the process so far in seconds; 0 where the system does not report it."""
        try:
            fields = Path(f"/proc/{self._process.pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return 0.0
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def lower_priority(self) -> None:
        """Lets the thread that decodes the present picture run only where no other thread of the machine would."""
        if sys.platform != "linux":
            return
        with contextlib.suppress(OSError):
            for thread in Path(f"/proc/{self._process.pid}/task").iterdir():
                if int(thread.name) != self._process.pid:
                    os.sched_setscheduler(int(thread.name), os.SCHED_IDLE, os.sched_param(0))

    def pause(self) -> None:
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Kills the process, which holds no state, and waits for its end."""
        self._process.kill()
        self._connection.close()
        self._process.wait()

    def _failure(self) -> RegistryError:
        """Returns the error of a picture whose process has ended without an answer."""
        try:
            status = self._process.wait(ENDED_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            status = self._process.wait()
        if status == -signal.SIGPROF:
            return ImageTooCostly(
                f"decoding the picture takes more than {self._limits.cpu_s:g} s of CPU time "
                "(limits.max_decode_seconds); scale it down, or save it as baseline JPEG"
            )
        if status in (-signal.SIGKILL, -signal.SIGTERM):  # the system is out of memory, or an operator stopped it
            return ImageTooCostly("the process that decoded the picture was killed; scale the picture down")
        return ImageUnreadable("the picture makes its decoder fail; convert it to baseline JPEG")


def _environment() -> dict[str, str]:
    """Returns the environment of a decoder: the import path, and no setting, which could be a secret."""
    path = os.pathsep.join(folder or str(Path.cwd()) for folder in sys.path)
    one_thread = {"OPENBLAS_NUM_THREADS": "1", "MALLOC_ARENA_MAX": "1"}
    return {"PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1", **one_thread, **KEPT_MEMORY}
