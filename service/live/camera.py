"""Reads frames from a camera, a network stream or a video file with OpenCV."""

import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import cv2
import numpy as np

from service.errors import StartupError
from service.vision.image import Pixels

MAX_WAIT_S = 30.0
"""Longest wait between two attempts to reach a camera. The waits start at one second and double."""
FRAME_TIMEOUT_S = 10.0
"""Time without a frame after which a camera counts as lost."""


@dataclass(frozen=True, slots=True)
class CameraFrame:
    """A frame, (height, width, 3) RGB. `at`: time in seconds, from the start of the video or of the program."""

    pixels: Pixels
    at: float


class Camera:
    """A source of frames: the number of a camera, an `rtsp://` or `http://` URL, or the path of a video file.

    A file is read from start to end. Of any other source, frames that arrive while the previous one is processed are
    dropped, and a lost connection is opened again until `stop` is called.

    Args:
        max_fps: frames per second of which the others are dropped.

    Attributes:
        name: the source without user name and password.
    """

    def __init__(self, source: str, max_fps: float) -> None:
        parts = urlsplit(source)
        self._is_stream = "://" in source
        self.name = f"{parts.scheme}://{parts.hostname}{parts.path}" if self._is_stream else source
        self._source: str | int = int(source) if source.isdecimal() else source
        self._interval_s = 1 / max_fps
        self._stopped = threading.Event()

    @property
    def is_file(self) -> bool:
        return not self._is_stream and isinstance(self._source, str)

    def stop(self) -> None:
        """Ends `frames`. May be called from another thread."""
        self._stopped.set()

    def frames(self) -> Iterator[CameraFrame | None]:
        """Yields the frames, and None each time the camera is lost.

        Raises:
            StartupError: the file cannot be read, or the camera cannot be reached at first.
        """
        capture = self._open()
        if capture is None:
            kind = "video file" if self.is_file else "camera"
            raise StartupError(f"the {kind} {self.name} cannot be read")
        started, wait_s = time.monotonic(), 1.0
        while not self._stopped.is_set():
            if capture is not None:
                frames = self._of_file(capture) if self.is_file else self._of_camera(capture, started)
                for frame in frames:
                    wait_s = 1.0
                    yield frame
                if self.is_file or self._stopped.is_set():
                    return
                yield None
            self._stopped.wait(wait_s)
            wait_s = min(MAX_WAIT_S, 2 * wait_s)
            capture = self._open()

    def _open(self) -> cv2.VideoCapture | None:
        capture = cv2.VideoCapture(self._source)
        if capture.isOpened():
            return capture
        capture.release()
        return None

    def _of_file(self, capture: cv2.VideoCapture) -> Iterator[CameraFrame]:
        """Yields the frames of a file at most at the maximum rate, by the times in the file."""
        due, number = 0.0, 0
        fps = capture.get(cv2.CAP_PROP_FPS) or 1.0
        while not self._stopped.is_set() and capture.grab():
            at, number = number / fps, number + 1
            if at + 1e-6 < due:
                continue
            due = at + self._interval_s
            is_read, pixels = capture.retrieve()
            if is_read:
                yield CameraFrame(_rgb(pixels), at)
        capture.release()

    def _of_camera(self, capture: cv2.VideoCapture, started: float) -> Iterator[CameraFrame]:
        """Yields the latest frame each time the caller asks for one, until the camera gives none any more."""
        latest = _Latest(capture)
        try:
            while not self._stopped.is_set():
                asked = time.monotonic()
                pixels = latest.take()
                if pixels is None:
                    return
                yield CameraFrame(pixels, time.monotonic() - started)
                self._stopped.wait(max(0.0, asked + self._interval_s - time.monotonic()))
        finally:
            latest.close()


class _Latest:
    """Reads a camera on a thread, because its buffer would otherwise deliver old frames. Keeps the latest frame."""

    def __init__(self, capture: cv2.VideoCapture) -> None:
        self._capture = capture
        self._changed = threading.Condition()
        self._pixels: Pixels | None = None
        self._is_open = True
        self._thread = threading.Thread(target=self._read, name="camera", daemon=True)
        self._thread.start()

    def take(self) -> Pixels | None:
        """Waits for a frame that was not taken before; None if the camera is lost."""
        with self._changed:
            self._changed.wait_for(lambda: self._pixels is not None or not self._is_open, FRAME_TIMEOUT_S)
            pixels, self._pixels = self._pixels, None
            return pixels

    def close(self) -> None:
        self._is_open = False
        self._thread.join(FRAME_TIMEOUT_S)

    def _read(self) -> None:
        while self._is_open:
            is_read, pixels = self._capture.read()
            with self._changed:
                self._is_open = self._is_open and is_read
                self._pixels = _rgb(pixels) if is_read else None
                self._changed.notify_all()
        self._capture.release()


def _rgb(pixels: Any) -> Pixels:
    """Returns pixels of OpenCV, which are BGR, as RGB."""
    return np.ascontiguousarray(pixels[..., ::-1])
