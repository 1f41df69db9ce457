"""The API key with which commands act as a client of a registry."""

import os
from pathlib import Path

VARIABLE = "API_KEY"


def read(file: Path | None) -> str | None:
    """Returns the key in a file, else that of the environment variable `API_KEY`, else None."""
    return os.environ.get(VARIABLE) if file is None else file.read_text().strip()
