"""The keys of cached artefacts, and artefacts of interrupted commands."""

from pathlib import Path

import numpy as np
import pytest

from trainer.cache import cached_array, folder_key


def test_the_key_of_a_folder_depends_on_the_paths_and_contents_of_its_files(tmp_path: Path) -> None:
    folder, copy = tmp_path / "first", tmp_path / "copy"
    for place in (folder, copy):
        (place / "labels").mkdir(parents=True)
        (place / "labels" / "a.txt").write_text("0 0.5")
    key = folder_key(folder)
    assert folder_key(copy) == key
    (copy / "labels" / "train.cache").write_bytes(b"written by Ultralytics")
    assert folder_key(copy) == key
    (copy / "labels" / "a.txt").rename(copy / "labels" / "b.txt")
    assert folder_key(copy) != key
    (folder / "labels" / "a.txt").write_text("0 0.6")
    assert folder_key(folder) != key


def test_an_interrupted_computation_leaves_no_artefact(tmp_path: Path) -> None:
    file = tmp_path / "cache" / "array.npy"

    def interrupted() -> np.ndarray:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached_array(file, interrupted)
    assert list(file.parent.iterdir()) == []
    assert cached_array(file, lambda: np.arange(3)).tolist() == [0, 1, 2]
    assert cached_array(file, interrupted).tolist() == [0, 1, 2]
