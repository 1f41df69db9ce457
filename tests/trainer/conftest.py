import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from tests.photos import COLLINS, HOPPER, pixels

BOXES = {COLLINS: (148, 40, 300, 192), HOPPER: (150, 110, 400, 360)}


@pytest.fixture(scope="session")
def identity_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two people with twelve canvases each, every one a differently moved and lit crop of a real photo."""
    folder = tmp_path_factory.mktemp("identities")
    rng = np.random.default_rng(0)
    for name, path in (("collins", COLLINS), ("hopper", HOPPER)):
        (folder / name).mkdir()
        for number in range(12):
            x0, y0, x1, y1 = BOXES[path]
            shift = rng.uniform(-0.05, 0.05, 2) * (x1 - x0)
            crop = Image.fromarray(pixels(path)).crop((x0 + shift[0], y0 + shift[1], x1 + shift[0], y1 + shift[1]))
            lit = np.asarray(crop.resize((160, 160))).astype(np.float32) * rng.uniform(0.6, 1.1)
            Image.fromarray(lit.clip(0, 255).astype(np.uint8)).save(folder / name / f"{number:02}.webp", quality=90)
    return folder


@pytest.fixture(scope="session")
def ten_people(identity_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The two people's canvases as those of ten with two or four each, so that some can be held out."""
    folder = tmp_path_factory.mktemp("ten")
    for path in sorted(identity_folder.glob("*/*.webp")):
        person = folder / f"{path.parent.name}-{min(int(path.stem), 9) // 2}"
        person.mkdir(exist_ok=True)
        shutil.copy(path, person)
    return folder


@pytest.fixture(autouse=True)
def few_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)
