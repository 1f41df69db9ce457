"""Renders videos from real photos."""

from collections.abc import Iterator, Sequence
from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from tests.photos import pixels

SIZE = (640, 480)
FPS = 15


def visit(photo: Path, seconds: float) -> Iterator[np.ndarray]:
    """Yields frames, (480, 640, 3) RGB, of a photo that moves slowly from left to right and becomes larger."""
    picture = Image.fromarray(pixels(photo))
    picture.thumbnail((420, 420))
    frames = round(seconds * FPS)
    for number in range(frames):
        share = number / max(1, frames - 1)
        scaled = picture.resize([round(side * (0.8 + 0.2 * share)) for side in picture.size])
        frame = Image.new("RGB", SIZE, (200, 205, 210))
        frame.paste(scaled, (round(20 + share * 180), (SIZE[1] - scaled.height) // 2))
        yield np.asarray(frame)


def empty(seconds: float) -> Iterator[np.ndarray]:
    """Yields frames without a face."""
    for _ in range(round(seconds * FPS)):
        yield np.full((SIZE[1], SIZE[0], 3), (200, 205, 210), np.uint8)


def write(path: Path, parts: Sequence[Iterator[np.ndarray]]) -> Path:
    """Writes the frames of the parts as an MPEG-4 file, one part after the other."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"mp4v"), FPS, SIZE)
    assert writer.isOpened()
    for part in parts:
        for frame in part:
            writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()
    return path


def write_y4m(path: Path, parts: Sequence[Iterator[np.ndarray]]) -> Path:
    """Writes the frames as YUV4MPEG2, the format of Chromium's file camera. Chromium repeats the file."""
    with path.open("wb") as file:
        file.write(f"YUV4MPEG2 W{SIZE[0]} H{SIZE[1]} F{FPS}:1 Ip A1:1 C420jpeg\n".encode())
        for part in parts:
            for frame in part:
                file.write(b"FRAME\n" + cv2.cvtColor(frame, cv2.COLOR_RGB2YUV_I420).tobytes())
    return path
