"""Arrays that take long to compute, kept in files."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt


def kept(file: Path, make: Callable[[], npt.NDArray[Any]]) -> npt.NDArray[Any]:
    """The array of a file, which is made first where it is not there. A file is there whole or not at all."""
    if not file.exists():
        file.parent.mkdir(parents=True, exist_ok=True)
        unfinished = file.with_suffix(".partial")
        with unfinished.open("wb") as opened:
            np.save(opened, make())
        unfinished.replace(file)
    return np.load(file)
