"""The record of a training run, by which the same command resumes it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from service.inference.bundle import file_sha256
from trainer.cache import atomic_file, content_key
from trainer.configuration import ConfigError
from trainer.embedder.aligned_crops import AlignedCrops
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.teacher import Teacher

FILE = "run.json"
Floats = np.ndarray[Any, np.dtype[np.float32]]


def best_of_run(path: Path) -> Path:
    """Returns the best checkpoint of the last stage of a run's folder; a checkpoint unchanged.

    Raises:
        ConfigError: A stage of the run is not finished.
    """
    if not path.is_dir():
        return path
    stages = json.loads((path / FILE).read_text())["config"]["stages"] if (path / FILE).is_file() else []
    folders = [path / f"{number}-{stage['name']}" for number, stage in enumerate(stages, start=1)]
    if not folders or not all((folder / "finished.json").is_file() for folder in folders):
        raise ConfigError(f"{path} is not the folder of a finished training run; name a checkpoint, or finish the run")
    return folders[-1] / "best.ckpt"


def require_same_run(
    output: Path,
    config: EmbedderConfig,
    crops: AlignedCrops,
    teachers: Sequence[Path],
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
        "teachers": [file_sha256(Teacher.of(teacher).graph) for teacher in teachers],
        "initial": None if initial is None else file_sha256(initial),
        "landmarks": None if landmarks is None else content_key(landmarks.tobytes()),
    }
    file = output / FILE
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
