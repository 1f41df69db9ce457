"""Prints what the demo does and the seconds that each phase takes."""

import contextlib
import time
from collections.abc import Iterator

from rich.console import Console


@contextlib.contextmanager
def phase(console: Console, text: str) -> Iterator[None]:
    """Prints `text`, and the duration when the block ends without an error."""
    console.print(f"{text} ... ", end="", highlight=False)
    started = time.perf_counter()
    try:
        yield
    except BaseException:
        console.print()
        raise
    console.print(f"{time.perf_counter() - started:.1f} s", highlight=False)
