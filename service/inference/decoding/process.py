"""A decoder process: decodes one picture after the other for its parent, within limits of CPU time and memory.

Decoders are native code that reads hostile files. The process has no environment variables of the service and therefore
no secret, and no open file except its socket and the buffers. The kernel kills it when a picture exceeds its CPU time.

Protocol on the socket: the parent sends the number of a buffer (1 byte), the length of a file (8 bytes, little-endian)
and the file. The process writes the pixels into the buffer and answers with one JSON line: the height and width of the
picture, or the code and detail of an error.
"""

import json
import os
import resource
import signal
import socket
import struct
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service.errors import RegistryError
from service.inference.decoding.buffers import SharedBuffer
from service.vision.image import ImageLimits, copy_pixels, load

REQUEST = struct.Struct("<BQ")


def serve(connection: socket.socket, buffers: Sequence[SharedBuffer], limits: ImageLimits, cpu_s: float) -> None:
    """Answers requests until the parent closes the socket.

    Args:
        cpu_s: CPU time of one picture in seconds, after which the kernel kills this process (`SIGPROF`).
    """
    while (header := _receive(connection, REQUEST.size)) is not None:
        number, size = REQUEST.unpack(header)
        if (data := _receive(connection, size)) is None:
            return
        answer: dict[str, Any] = {}
        # A thread of its own: the parent can lower its priority, and the next picture has a new one.
        thread = threading.Thread(target=lambda: answer.update(_decode(data, buffers[number], limits)))  # noqa: B023
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        try:
            thread.start()
            thread.join()
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if not answer:  # an exception that is not an error of the picture; the thread has printed it
            sys.exit(1)
        connection.sendall(json.dumps(answer).encode() + b"\n")


def _decode(data: bytes, buffer: SharedBuffer, limits: ImageLimits) -> dict[str, Any]:
    """Writes the pixels of a file into the buffer, and returns the answer."""
    try:
        picture = load(data, limits)
        copy_pixels(picture, buffer.view(picture.height, picture.width))
    except RegistryError as error:
        return {"code": error.code, "detail": error.detail}
    return {"height": picture.height, "width": picture.width}


def _receive(connection: socket.socket, size: int) -> bytes | None:
    """Returns `size` bytes; None if the parent has closed the socket."""
    data, received = bytearray(size), 0
    with memoryview(data) as view:
        while received < size:
            count = connection.recv_into(view[received:])
            if count == 0:
                return None
            received += count
    return bytes(data)


def _limit_memory(extra_bytes: int) -> None:
    """Limits the address space to the present one and `extra_bytes`. macOS has no such limit."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would contain the picture
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + extra_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    """Runs a decoder process.

    Arguments: maximum bytes and pixels of a picture, CPU time of a picture in seconds, bytes of memory, descriptor of
    the socket, descriptors of the buffers.
    """
    max_bytes, max_pixels = map(int, sys.argv[1:3])
    cpu_s, memory_bytes = float(sys.argv[3]), int(sys.argv[4])
    descriptor, *files = map(int, sys.argv[5:])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which closes the socket
    buffers = [SharedBuffer(file, max_pixels * 3) for file in files]
    for file in files:
        os.close(file)
    _limit_memory(memory_bytes)
    with socket.socket(fileno=descriptor) as connection:
        serve(connection, buffers, ImageLimits(max_bytes, max_pixels), cpu_s)


if __name__ == "__main__":
    main()
