"""A pool of decoder processes: decodes pictures concurrently, and keeps slow ones from delaying the others."""

import asyncio
import contextlib
import queue
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from service.errors import EngineBusy, ImageTooCostly
from service.inference.decoding.client import DecoderLimits, DecoderProcess
from service.vision.image import DecodedPicture

POLL_S = 0.01
SLOW_AFTER_S = 0.03
"""CPU time after which a picture is slow: it continues at the lowest priority, and another one takes its place."""
REFUSED_AFTER_S = 0.15
"""CPU time after which a picture is given up if there are too many slow ones."""
MAX_SLOW = 4
"""Maximum number of slow pictures at the same time. They share all cores but one."""
MAX_SPARE = 1
"""Idle processes that remain after slow pictures: starting one takes CPU time from other pictures."""
STARVED_AFTER_S = 60.0
"""Wall time after which a picture is given up: its decoder gets no CPU time, or waits for something."""


class DecoderPool:
    """Decodes each picture in one of `size` processes, which are replaced when they end.

    A slow picture does not count among the `size`: it continues at the lowest priority, on at most `size - 1` cores
    together with the other slow ones, while another process decodes the next pictures. A decoded picture occupies one
    of the process's buffers until nothing refers to it any more, which limits the memory for decoded pictures.
    """

    def __init__(self, size: int, limits: DecoderLimits) -> None:
        self.size = size
        self._limits = limits
        self._idle: list[DecoderProcess] = []
        self._changed = threading.Condition()
        self._busy = 0
        self._slow = 0
        self._slow_turns = threading.Semaphore(max(1, size - 1))
        self._closed = False
        self._threads = ThreadPoolExecutor(size + MAX_SLOW, thread_name_prefix="decode")
        # `SimpleQueue.put` may be called where an object is deleted, as the only kind of queue.
        self._released: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._releasing = threading.Thread(target=self._release, name="decode-release", daemon=True)

    async def start(self) -> None:
        """Starts the processes, so that the first pictures need not wait for them."""
        self._idle = [DecoderProcess(self._limits) for _ in range(self.size)]
        self._releasing.start()

    async def stop(self) -> None:
        """Ends the processes. A picture that is being decoded is awaited, and a waiting one gets EngineBusy."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
        await asyncio.to_thread(self._threads.shutdown)
        self._released.put(None)
        while self._idle:
            self._idle.pop().close()

    async def decode(self, data: bytes, min_longer_side: int | None = None) -> DecodedPicture:
        """Returns the upright picture.

        Args:
            min_longer_side: as in `service.vision.image.decode_into`.

        Raises:
            ImageTooCostly: the picture exceeds the CPU time or the memory.
            EngineBusy: the picture is slow, and too many others are.
            RegistryError: the errors of `service.vision.image.decode`.
        """
        return await asyncio.get_running_loop().run_in_executor(self._threads, self._decode, data, min_longer_side)

    def _decode(self, data: bytes, min_longer_side: int | None) -> DecodedPicture:
        with self._turn() as turn:
            turn.process.start(data, min_longer_side)
            if not self._finishes_soon(turn):
                self._continue_slowly(turn.process)
            return turn.process.result(self._released.put)

    def _finishes_soon(self, turn: "_Turn") -> bool:
        """Waits for the picture. Returns False as soon as it is slow and has given its place to the next one."""
        process, started, cpu_before = turn.process, time.monotonic(), turn.process.cpu_s
        while not process.is_done(POLL_S):
            cpu_s = process.cpu_s - cpu_before
            if cpu_s > SLOW_AFTER_S and self._make_slow(turn):
                return False
            if cpu_s > REFUSED_AFTER_S:
                raise EngineBusy("too many pictures take long to decode; try again later, or scale the picture down")
            if time.monotonic() - started > STARVED_AFTER_S:
                raise _starved()
        return True

    def _continue_slowly(self, process: DecoderProcess) -> None:
        """Waits for a slow picture, which continues when it is its turn."""
        process.lower_priority()
        process.pause()
        if not self._slow_turns.acquire(timeout=STARVED_AFTER_S):
            raise _starved()
        try:
            process.resume()
            if not process.is_done(STARVED_AFTER_S):
                raise _starved()
        finally:
            self._slow_turns.release()

    @contextlib.contextmanager
    def _turn(self) -> Iterator["_Turn"]:
        """Lends a process for one picture. One that has not answered is not used again."""
        turn = _Turn(self._take())
        try:
            yield turn
        finally:
            with self._changed:
                if turn.is_slow:
                    self._slow -= 1
                else:
                    self._busy -= 1
                is_kept = not turn.process.is_busy and self._busy + len(self._idle) < self.size + MAX_SPARE
                if is_kept:
                    self._idle.append(turn.process)
                self._changed.notify()
            if not is_kept:
                turn.process.close()

    def _take(self) -> DecoderProcess:
        """Waits for an idle process with a free buffer, or starts one if there are fewer than `size`.

        Raises:
            EngineBusy: the pool was stopped, or no process became free in time.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._closed or self._is_available(), STARVED_AFTER_S):
                raise EngineBusy("no decoder became free; try again later")
            if self._closed:
                raise EngineBusy("the service is shutting down; try again later")
            self._busy += 1
            if process := self._idle_with_buffer():
                self._idle.remove(process)
                return process
        try:
            return DecoderProcess(self._limits)
        except BaseException:
            with self._changed:
                self._busy -= 1
            raise

    def _is_available(self) -> bool:
        is_startable = self._busy + len(self._idle) < self.size
        return self._busy < self.size and (is_startable or self._idle_with_buffer() is not None)

    def _idle_with_buffer(self) -> DecoderProcess | None:
        return next((process for process in self._idle if process.has_free_buffer), None)

    def _make_slow(self, turn: "_Turn") -> bool:
        """Lets another process take the place of a slow picture. Returns False if there are too many slow ones."""
        with self._changed:
            if self._slow >= MAX_SLOW:
                return False
            self._slow, self._busy, turn.is_slow = self._slow + 1, self._busy - 1, True
            self._changed.notify()
        return True

    def _release(self) -> None:
        """Frees the buffers of pictures that are no longer in use, on a thread that no picture waits for."""
        while (free := self._released.get()) is not None:
            free()
            with self._changed:
                self._changed.notify()


@dataclass(eq=False, slots=True)
class _Turn:
    """A process that decodes one picture."""

    process: DecoderProcess
    is_slow: bool = False


def _starved() -> ImageTooCostly:
    return ImageTooCostly(f"decoding the picture took more than {STARVED_AFTER_S:g} s; scale it down")
