"""The record of a training run, by which the same command resumes it."""

import json
from pathlib import Path
from typing import Any

import numpy as np

from service.inference.bundle import file_sha256
from trainer.cache import atomic_file, content_key
from trainer.configuration import ConfigError
from trainer.embedder.aligned_crops import AlignedCrops
from trainer.embedder.config import EmbedderConfig

Floats = np.ndarray[Any, np.dtype[np.float32]]


def require_same_run(
    output: Path,
    config: EmbedderConfig,
    crops: AlignedCrops,
    teacher: Path | None,
    initial: Path | None,
    landmarks: Floats | None,
) -> None:
    """Checks that the folder is new or contains this run, since stages of another run would count as finished.

    Raises:
        ConfigError: The folder contains another run.
    """
    current = {
        "config": config.model_dump(mode="json"),
        "pictures": crops.key,
        "teacher": None if teacher is None else file_sha256(teacher),
        "initial": None if initial is None else file_sha256(initial),
        "landmarks": None if landmarks is None else content_key(landmarks.tobytes()),
    }
    file = output / "run.json"
    if not file.exists():
        with atomic_file(file) as unfinished:
            unfinished.write_text(json.dumps(current, indent=2) + "\n")
        return
    stored = json.loads(file.read_text())
    if changed := [name for name, value in current.items() if stored.get(name) != value]:
        raise ConfigError(
            f"{output} contains a run with other {' and '.join(changed)}; name another folder with --output, or delete "
            "this one"
        )
