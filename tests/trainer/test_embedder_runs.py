"""Run folders of an embedder: finished, killed and repeated runs."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from tests.trainer.small_embedder import CONFIG
from trainer.configuration import ConfigError
from trainer.embedder import training
from trainer.embedder.aligned_crops import load_aligned_crops

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's hints on loaders, loggers and precision


def test_finished_run_is_not_trained_again(trained: Path, identity_folder: Path, tmp_path: Path) -> None:
    before = trained.stat().st_mtime_ns
    crops = load_aligned_crops(identity_folder, None, tmp_path)
    assert training.train(CONFIG, crops, None, tmp_path, trained.parents[1]) == trained
    assert trained.stat().st_mtime_ns == before


def test_killed_run_resumes_from_its_last_epoch(identity_folder: Path, tmp_path: Path) -> None:
    import os

    import yaml

    from tests.server import wait_for

    stage = {**CONFIG.stages[0].model_dump(), "epochs": 12}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump({**CONFIG.model_dump(mode="json"), "stages": [stage]}))
    options = {"--identities": identity_folder, "--config": "train.yaml", "--work": "work"}
    arguments = [str(part) for item in options.items() for part in item]
    command, uninterrupted_command = (
        [sys.executable, "-m", "trainer", "train", *arguments, "--output", folder]
        for folder in ("run", "uninterrupted")
    )
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}
    last = tmp_path / "run" / "1-batch-hard" / "last.ckpt"
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    ) as first:
        wait_for(lambda: last.exists() or first.poll() is not None, 120)
        first.kill()
    assert not last.with_name("finished.json").exists()
    before = torch.load(last, map_location="cpu", weights_only=True)["epoch"]
    second = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=True)
    assert "Restored all states" in second.stderr
    assert last.with_name("finished.json").exists()
    resumed = torch.load(last, map_location="cpu", weights_only=True)
    assert resumed["epoch"] == 11 > before
    # Also in another process: other tests may have changed the number of threads, which changes the order of sums.
    subprocess.run(uninterrupted_command, cwd=tmp_path, env=environment, capture_output=True, check=True)
    uninterrupted = torch.load(
        tmp_path / "uninterrupted" / "1-batch-hard" / "last.ckpt", map_location="cpu", weights_only=True
    )
    for name, weights in uninterrupted["state_dict"].items():
        torch.testing.assert_close(resumed["state_dict"][name], weights, atol=1e-6, rtol=1e-6)


def test_run_accepts_a_copy_of_its_pictures_and_rejects_others(
    trained: Path, identity_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(identity_folder, tmp_path / "again", copy_function=shutil.copyfile)
    crops = load_aligned_crops(tmp_path / "again", None, tmp_path)
    assert training.train(CONFIG, crops, None, tmp_path, trained.parents[1]) == trained
    next((tmp_path / "again").glob("*/*")).write_bytes(next(identity_folder.glob("*/*")).read_bytes()[:-1] + b"!")
    with pytest.raises(ConfigError, match="contains a run with other pictures"):
        training.train(
            CONFIG, load_aligned_crops(tmp_path / "again", None, tmp_path), None, tmp_path, trained.parents[1]
        )


def test_folder_of_another_run_is_rejected(trained: Path, identity_folder: Path, tmp_path: Path) -> None:
    crops = load_aligned_crops(identity_folder, None, tmp_path)
    config = CONFIG.model_copy(update={"seed": 1})
    with pytest.raises(ConfigError, match="contains a run with other config"):
        training.train(config, crops, None, tmp_path, trained.parents[1])
