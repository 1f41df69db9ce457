"""Sends bytes to a port, without the checks that HTTP libraries apply to a request, and reads the status."""

import contextlib
import socket
import time

RESPONSE_S = 30.0
"""Time limit of the response to a complete request."""


def send(address: tuple[str, int], data: bytes, wait_s: float = RESPONSE_S) -> tuple[int | None, float]:
    """Sends a request on a new connection. Returns the status and the seconds until it arrived.

    The status is None if the service closes the connection without a response, or does not respond within `wait_s`.

    Raises:
        ConnectionRefusedError: no process listens on the port.
    """
    started = time.perf_counter()
    with socket.create_connection(address, timeout=wait_s) as connection:
        # The service may refuse a request before its end, and still respond.
        with contextlib.suppress(ConnectionResetError, BrokenPipeError, TimeoutError):
            connection.sendall(data)
        try:
            line = _first_line(connection)
        except (ConnectionResetError, TimeoutError):
            line = b""
    parts = line.split()
    status = int(parts[1]) if len(parts) > 1 and parts[1].isdigit() else None
    return status, time.perf_counter() - started


def _first_line(connection: socket.socket) -> bytes:
    """Returns the status line, and reads the rest of the response if it ends at once."""
    received = b""
    while b"\n" not in received and len(received) < 4096:
        part = connection.recv(65536)
        if not part:
            break
        received += part
    return received.partition(b"\n")[0]
