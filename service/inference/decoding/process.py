"""A decoder process: decodes one picture after the other for its parent, within limits of CPU time and memory.

Decoders are native code that reads hostile files. The process has no environment variables of the service and therefore
no secret, and no open file except its socket and the buffers. The kernel kills it when a picture exceeds its CPU time.

Protocol: the parent writes a file into a buffer, and sends the number of another buffer (1 byte), the length of the
file (8 bytes, little-endian) and the minimum longer side in pixels (4 bytes; 0: all pixels) through the socket. The
process writes the pixels into that buffer and answers with one JSON line: the shape of the pixels and the size of the
picture, or the code and detail of an error.
"""

import contextlib
import json
import os
import resource
import signal
import socket
import struct
import sys
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from service.errors import RegistryError
from service.inference.decoding.buffers import SharedBuffer
from service.vision.image import ImageLimits, decode_into

REQUEST = struct.Struct("<BQI")
READY = b"\n"
"""What the process sends when it can decode its first picture."""
THREAD_WAITS_S = (0.001, 0.01, 0.1, 0.5)


def serve(
    connection: socket.socket, file: SharedBuffer, buffers: Sequence[SharedBuffer], limits: ImageLimits, cpu_s: float
) -> None:
    """Answers requests until the parent closes the socket.

    Args:
        file: the buffer of the files.
        buffers: the buffers of the pixels.
        cpu_s: CPU time of one picture in seconds, after which the kernel kills this process (`SIGPROF`).
    """
    while len(header := connection.recv(REQUEST.size, socket.MSG_WAITALL)) == REQUEST.size:
        number, size, min_side = REQUEST.unpack(header)
        data = file.read(size)
        answer: dict[str, Any] = {}
        # A thread of its own: the parent can lower its priority, and the next picture has a new one.
        thread = threading.Thread(target=lambda: answer.update(_decode(data, buffers[number], limits, min_side)))  # noqa: B023
        signal.setitimer(signal.ITIMER_PROF, cpu_s)
        try:
            _start(thread)
            thread.join()
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        if not answer:  # an exception that is not an error of the picture; the thread has printed it
            sys.exit(1)
        connection.sendall(json.dumps(answer).encode() + b"\n")


def _start(thread: threading.Thread) -> None:
    """Starts a thread, also if the memory limit leaves no room for its stack until the previous thread has ended."""
    for wait_s in THREAD_WAITS_S:
        try:
            return thread.start()
        except RuntimeError:  # Python has joined the previous thread, but the system has not freed its stack yet
            time.sleep(wait_s)
    return thread.start()


def _decode(data: bytes, buffer: SharedBuffer, limits: ImageLimits, min_side: int) -> dict[str, Any]:
    """Writes the pixels of a file into the buffer, and returns the answer."""
    try:
        picture = decode_into(data, limits, buffer.view, min_side or None)
    except RegistryError as error:
        return {"code": error.code, "detail": error.detail}
    rows, columns = picture.pixels.shape[:2]
    size = {"rows": rows, "columns": columns, "height": picture.height, "width": picture.width}
    return size | {"visible": picture.visible}


def _limit_memory(extra_bytes: int) -> None:
    """Limits the address space to the present one and `extra_bytes`. macOS has no such limit."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))  # a core dump would contain the picture
    if sys.platform == "linux":
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limit = pages * resource.getpagesize() + extra_bytes
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))


def main() -> None:
    """Runs a decoder process.

    Arguments: maximum bytes and pixels of a picture, CPU time of a picture in seconds, bytes of memory, descriptors of
    the socket, of the buffer of the files and of the buffers of the pixels.
    """
    max_bytes, max_pixels = map(int, sys.argv[1:3])
    cpu_s, memory_bytes = float(sys.argv[3]), int(sys.argv[4])
    descriptor, *files = map(int, sys.argv[5:])
    sizes = [max_bytes] + [max_pixels * 3] * (len(files) - 1)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches the parent, which closes the socket
    file, *buffers = map(SharedBuffer, files, sizes)
    for open_file in files:
        os.close(open_file)
    _limit_memory(memory_bytes)
    # A parent that stops closes the socket, possibly before it has read everything: the connection is then reset.
    with socket.socket(fileno=descriptor) as connection, contextlib.suppress(ConnectionError):
        connection.sendall(READY)
        serve(connection, file, buffers, ImageLimits(max_bytes, max_pixels), cpu_s)


if __name__ == "__main__":
    main()
