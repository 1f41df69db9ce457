"""Temporary folders for the databases of benchmarks."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def database_folder() -> Iterator[Path]:
    """Yields a temporary folder that the account of PostgreSQL can enter, and deletes it at the end of the block."""
    with tempfile.TemporaryDirectory(prefix="ir-") as name:
        folder = Path(name)
        folder.chmod(0o711)  # Started by root, PostgreSQL runs under another account.
        yield folder
