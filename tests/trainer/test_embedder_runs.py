"""Run folders of an embedder: finished, killed and repeated runs."""

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from tests.server import wait_for
from tests.trainer.small_embedder import CONFIG
from trainer.configuration import ConfigError
from trainer.embedder import training
from trainer.embedder.aligned_crops import load_aligned_crops
from trainer.embedder.training_log import read_curves

PROGRAM = """
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)  # the tests may run in the background, which ignores it
from trainer.__main__ import main
main()
"""
pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's hints on loaders, loggers and precision


def test_finished_run_is_not_trained_again(trained: Path, identity_folder: Path, tmp_path: Path) -> None:
    before = trained.stat().st_mtime_ns
    crops = load_aligned_crops(identity_folder, None, tmp_path)
    assert training.train(CONFIG, crops, (), tmp_path, trained.parents[1]) == trained
    assert trained.stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("signals", "run"),
    [
        # The rank-1 rate seldom changes, and the checkpoints that it selects are older than the last epoch.
        ([signal.SIGKILL, signal.SIGTERM, signal.SIGINT], {"monitor": "rank_1"}),
        ([signal.SIGKILL, signal.SIGKILL], {"keep_best": 0}),
    ],
)
def test_interrupted_run_resumes_from_its_last_epoch(
    signals: list[signal.Signals], run: dict[str, Any], ten_people: Path, tmp_path: Path
) -> None:
    stage = {**CONFIG.stages[0].model_dump(), "epochs": 12}
    settings = {
        **CONFIG.model_dump(mode="json"),
        **run,
        "stages": [stage],
        "split": {"validation": 0.5, "calibration": 0},
    }
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(settings))
    command = [sys.executable, "-c", PROGRAM, "train", "--identities", str(ten_people), "--config", "train.yaml"]
    command += ["--work", "work", "--output"]
    options: dict[str, Any] = {"cwd": tmp_path, "env": os.environ | {"PYTHONPATH": str(Path(__file__).parents[2])}}
    folder = tmp_path / "run" / "1-batch-hard"
    finished = -1
    for sent in signals:
        assert _interrupt([*command, "run"], options, sent, folder, finished) != 0
        assert not (folder / "finished.json").exists()
        finished = _epoch(folder)
    last = subprocess.run([*command, "run"], **options, capture_output=True, text=True, check=True)
    assert f"starts with epoch {finished + 2} of 12" in last.stdout
    # Also in another process: other tests may have changed the number of threads, which changes the order of sums.
    subprocess.run([*command, "uninterrupted"], **options, capture_output=True, check=True)
    for name in ("last.ckpt", "best.ckpt"):
        resumed, expected = (_read(tmp_path / output / "1-batch-hard" / name) for output in ("run", "uninterrupted"))
        assert resumed["epoch"] == expected["epoch"]
        for key, weights in expected["state_dict"].items():
            torch.testing.assert_close(resumed["state_dict"][key], weights, atol=1e-6, rtol=1e-6)
    curves = read_curves(tmp_path / "run")
    assert curves["loss"].steps == read_curves(tmp_path / "uninterrupted")["loss"].steps


def _interrupt(command: list[str], options: dict[str, Any], sent: signal.Signals, folder: Path, finished: int) -> int:
    """Sends a signal when the run has finished a further epoch; returns the exit status."""
    nowhere = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(command, **options, **nowhere) as process:
        wait_for(lambda: _epoch(folder) > finished or process.poll() is not None, 120)
        process.send_signal(sent)
    return process.returncode


def _read(checkpoint: Path) -> dict[str, Any]:
    return torch.load(checkpoint, map_location="cpu", weights_only=True)


def _epoch(folder: Path) -> int:
    """Returns the last finished epoch, from 0; -1: none is finished."""
    last = folder / "last.ckpt"
    return _read(last)["epoch"] if last.exists() else -1


def test_run_accepts_a_copy_of_its_pictures_and_rejects_others(
    trained: Path, identity_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(identity_folder, tmp_path / "again", copy_function=shutil.copyfile)
    crops = load_aligned_crops(tmp_path / "again", None, tmp_path)
    assert training.train(CONFIG, crops, (), tmp_path, trained.parents[1]) == trained
    next((tmp_path / "again").glob("*/*")).write_bytes(next(identity_folder.glob("*/*")).read_bytes()[:-1] + b"!")
    with pytest.raises(ConfigError, match="contains a run with other pictures"):
        training.train(CONFIG, load_aligned_crops(tmp_path / "again", None, tmp_path), (), tmp_path, trained.parents[1])


def test_folder_of_another_run_is_rejected(trained: Path, identity_folder: Path, tmp_path: Path) -> None:
    crops = load_aligned_crops(identity_folder, None, tmp_path)
    config = CONFIG.model_copy(update={"seed": 1})
    with pytest.raises(ConfigError, match="contains a run with other config"):
        training.train(config, crops, (), tmp_path, trained.parents[1])
