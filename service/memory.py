"""The memory of the machine or of the control group (container) of this process, in bytes."""

import os
from pathlib import Path

MEMINFO = Path("/proc/meminfo")
CONTROL_GROUP = Path("/sys/fs/cgroup")


def available_bytes() -> int:
    """Returns the memory that the process can still use, including caches that the system can drop."""
    available = _available_on_machine()
    if (limit := _limit()) is not None:
        used = int((CONTROL_GROUP / "memory.current").read_text())
        available = min(available, limit - used)
    return max(0, available)


def total_bytes() -> int:
    """Returns the memory of the machine, or the limit of the control group if that is lower."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return total if (limit := _limit()) is None else min(total, limit)


def _available_on_machine() -> int:
    """Returns MemAvailable of Linux; elsewhere half of the memory."""
    if MEMINFO.exists():
        for line in MEMINFO.read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "MemAvailable":
                return int(value.split()[0]) * 1024
    return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2


def _limit() -> int | None:
    """Returns the limit of control groups v2; None: there is none."""
    try:
        limit = (CONTROL_GROUP / "memory.max").read_text().strip()
    except OSError:
        return None
    return None if limit == "max" else int(limit)
