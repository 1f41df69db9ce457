"""Fixtures: torch on one thread, a trained small embedder, the shipped detector and the faces that it detects."""

import contextlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from service.inference.detector import YoloFaceDetector
from service.inference.graph import RuntimeOptions
from service.runtime.settings import BUNDLES
from tests.trainer.small_embedder import CONFIG
from trainer.embedder import training
from trainer.embedder.aligned_crops import load_aligned_crops
from trainer.landmarks.faces import Faces, detected_faces


@contextlib.contextmanager
def one_thread() -> Iterator[None]:
    """Limits torch to one thread, since the number of threads changes the order of sums and thereby the weights."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    with one_thread():
        yield


@pytest.fixture(scope="session")
def trained(identity_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("run")
    with one_thread(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        crops = load_aligned_crops(identity_folder, None, folder / "cache")
        return training.train(CONFIG, crops, (), folder / "cache", folder / "run")


@pytest.fixture(scope="module")
def detector() -> YoloFaceDetector:
    return YoloFaceDetector(BUNDLES / "detector", RuntimeOptions())


@pytest.fixture(scope="module")
def faces(identity_folder: Path, detector: YoloFaceDetector) -> Faces:
    return detected_faces(identity_folder, detector, 0.3, 24)
