"""Folders for the benchmarks' databases."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def database_folder() -> Iterator[Path]:
    """A new folder that goes away with all in it, and that the account which runs PostgreSQL can enter."""
    with tempfile.TemporaryDirectory(prefix="ir-") as name:
        folder = Path(name)
        folder.chmod(0o711)
        yield folder
