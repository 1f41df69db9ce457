"""A pool of decoder processes: decodes pictures concurrently, and keeps slow ones from delaying the others."""

import asyncio
import contextlib
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from service.errors import EngineBusy, ImageTooCostly
from service.inference.decoding.client import DecoderLimits, DecoderProcess
from service.vision.image import Pixels

POLL_S = 0.05
SLOW_AFTER_S = 0.15
"""CPU time after which a picture continues at the lowest priority, in a process that no other picture waits for."""
MAX_SLOW = 4
"""Maximum number of slow pictures at the same time."""
STARVED_AFTER_S = 60.0
"""Wall time after which a picture is given up: its decoder gets no CPU time, or waits for something."""


class DecoderPool:
    """Decodes each picture in one of `size` processes, which are replaced when they end.

    A slow picture does not count among the `size`: its process gets the lowest priority, another process takes its
    place, and the process ends with the picture. A decoded picture occupies one of the process's buffers until nothing
    refers to it any more, which limits the memory for decoded pictures.
    """

    def __init__(self, size: int, limits: DecoderLimits) -> None:
        self.size = size
        self._limits = limits
        self._idle: list[DecoderProcess] = []
        self._changed = threading.Condition()
        self._running = 0
        self._slow = 0
        self._closed = False
        self._threads = ThreadPoolExecutor(size + MAX_SLOW, thread_name_prefix="decode")

    async def start(self) -> None:
        """Starts the processes, so that the first pictures need not wait for them."""
        self._idle = [DecoderProcess(self._limits) for _ in range(self.size)]
        self._running = self.size

    async def stop(self) -> None:
        """Ends the processes. A picture that is being decoded is awaited, and a waiting one gets EngineBusy."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        await asyncio.to_thread(self._threads.shutdown)
        while self._idle:
            self._idle.pop().close()

    async def decode(self, data: bytes) -> Pixels:
        """Returns the upright picture, (height, width, 3) RGB.

        Raises:
            ImageTooCostly: the picture exceeds the CPU time or the memory.
            EngineBusy: the picture is slow, and too many others are.
            RegistryError: the errors of `service.vision.image.decode`.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._decode, data)

    def _decode(self, data: bytes) -> Pixels:
        with self._turn() as turn:
            process, started, cpu_before = turn.process, time.monotonic(), turn.process.cpu_s
            process.start(data)
            while not process.is_done(POLL_S):
                if time.monotonic() - started > STARVED_AFTER_S:
                    raise ImageTooCostly(f"decoding the picture took more than {STARVED_AFTER_S:g} s; scale it down")
                if not turn.is_slow and process.cpu_s - cpu_before > SLOW_AFTER_S:
                    self._make_slow(turn)
            return process.result(self._notify)

    @contextlib.contextmanager
    def _turn(self) -> Iterator["_Turn"]:
        """Lends a process for one picture. A slow one, or one that has not answered, is not used again."""
        turn = _Turn(self._take())
        try:
            yield turn
        finally:
            is_reusable = not turn.is_slow and not turn.process.is_busy
            if not is_reusable:
                turn.process.close()
            with self._changed:
                if is_reusable:
                    self._idle.append(turn.process)
                elif turn.is_slow:
                    self._slow -= 1
                else:
                    self._running -= 1
                self._changed.notify()

    def _take(self) -> DecoderProcess:
        """Waits for an idle process with a free buffer, or starts one if there are fewer than `size`."""
        with self._changed:
            while True:
                if self._closed:
                    raise EngineBusy("the service is shutting down; try again later")
                for process in self._idle:
                    if process.has_free_buffer:
                        self._idle.remove(process)
                        return process
                if self._running < self.size:
                    self._running += 1
                    break
                self._changed.wait()
        try:
            return DecoderProcess(self._limits)
        except BaseException:
            with self._changed:
                self._running -= 1
            raise

    def _make_slow(self, turn: "_Turn") -> None:
        """Lets another process take the place of a slow one. Raises EngineBusy if there are too many slow ones."""
        with self._changed:
            if self._slow >= MAX_SLOW:
                raise EngineBusy("too many pictures take long to decode; try again later, or scale the picture down")
            self._slow, self._running, turn.is_slow = self._slow + 1, self._running - 1, True
            self._changed.notify()
        turn.process.lower_priority()

    def _notify(self) -> None:
        with self._changed:
            self._changed.notify()


@dataclass(eq=False, slots=True)
class _Turn:
    """A process that decodes one picture."""

    process: DecoderProcess
    is_slow: bool = False
