"""The instructions that the processor must have, checked before NumPy loads code that needs them."""

import platform
import sys
from pathlib import Path

LEVEL_2 = {"cx16", "lahf_lm", "pni", "popcnt", "sse4_1", "sse4_2", "ssse3"}
"""The flags of x86-64-v2 (System V ABI, AMD64 supplement, 3.1.1), for which NumPy is compiled."""
CPUINFO = Path("/proc/cpuinfo")


def missing_instructions(cpuinfo: str) -> set[str]:
    """Returns the required instructions that no processor of /proc/cpuinfo has."""
    flags = next((line for line in cpuinfo.splitlines() if line.startswith("flags")), None)
    return set() if flags is None else LEVEL_2 - set(flags.partition(":")[2].split())


def require_supported() -> None:
    """Ends the program with a message if the processor cannot run it. Systems without /proc/cpuinfo are not checked."""
    if platform.machine() not in ("x86_64", "AMD64") or not CPUINFO.exists():
        return
    if missing := missing_instructions(CPUINFO.read_text()):
        sys.exit(
            f"identity-registry: the processor lacks {', '.join(sorted(missing))}; x86-64-v2 is required (2009 or "
            "later). In a virtual machine choose the processor type `host` or `x86-64-v2`"
        )


require_supported()
