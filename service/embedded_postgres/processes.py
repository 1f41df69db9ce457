"""The processes of the embedded server: binds them to the life of their parent, lists and stops them."""

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil

PR_SET_PDEATHSIG = 1
STOP_TIMEOUT_S = 30.0


def stop(server: "subprocess.Popen[bytes]") -> None:
    """Stops the server with a fast shutdown (SIGINT); after 30 seconds with an immediate one (SIGQUIT)."""
    if server.poll() is not None:
        return
    server.send_signal(signal.SIGINT)
    try:
        server.wait(STOP_TIMEOUT_S)
    except subprocess.TimeoutExpired:
        server.send_signal(signal.SIGQUIT)
        server.wait()


def die_with_parent() -> None:
    """Makes the kernel send SIGINT to the calling process when its parent ends. Only Linux supports this.

    Runs in the child after the change of account, which resets the setting.
    """
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGINT)


def postgres_processes(data: Path) -> list[psutil.Process]:
    """Returns the PostgreSQL processes that use a data folder.

    The server is identified by its command line, and children that outlive it by their working directory.
    """
    folder = str(data.resolve())
    processes = []
    for process in psutil.process_iter(["name", "cmdline", "cwd", "status"]):
        info = process.info
        if info["status"] == psutil.STATUS_ZOMBIE or not (info["name"] or "").startswith("postgres"):
            continue
        if info["cwd"] == folder or str(data) in (info["cmdline"] or []):
            processes.append(process)
    return processes


def send_signal(process: psutil.Process, number: int) -> None:
    """Sends a signal to a process unless it has ended."""
    with contextlib.suppress(psutil.NoSuchProcess):
        process.send_signal(number)
