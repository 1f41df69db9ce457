"""Training with two processes."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml

from tests.trainer.small_run import RUN, STAGE, Run
from trainer.embedder.aligned_crops import load_aligned_crops
from trainer.embedder.checkpoints import load_encoder
from trainer.embedder.config import EmbedderConfig

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's hints on loaders, loggers and precision


def test_two_processes_mine_triplets_in_the_whole_batch(identity_folder: Path, tmp_path: Path) -> None:
    """Without random changes and with frozen batch norms, two processes learn the weights that one process learns."""
    stage = {**STAGE, "freeze_batch_norm": True, "optimizer": "sgd", "learning_rate": 0.05}
    stages = [stage, {**stage, "name": "two", "losses": {"triplet": 1.0, "arcface": {"scale": 8}}}]
    config = {**RUN, "split": {"validation": 0, "calibration": 0}, "stages": stages}
    (tmp_path / "train.yaml").write_text(yaml.safe_dump(config))
    command = [sys.executable, "-m", "trainer", "train", "--identities", str(identity_folder), "--config", "train.yaml"]
    environment = os.environ | {"PYTHONPATH": str(Path(__file__).parents[2]), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, "--work", "work", "--output", "run", "--processes", "2"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "starts with epoch 1 of 2, on cpu, 2 processes" in done.stdout
    both = load_encoder(tmp_path / "run" / "2-two" / "best.ckpt")[0].state_dict()
    crops = load_aligned_crops(identity_folder, None, tmp_path / "cache")
    alone = Run(tmp_path / "alone", EmbedderConfig.model_validate(config), crops)
    for name, value in load_encoder(alone.best)[0].state_dict().items():
        torch.testing.assert_close(both[name], value, atol=2e-4, rtol=1e-3)
