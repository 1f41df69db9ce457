"""Changes each key of a training configuration once and checks its effect."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch._dynamo import OptimizedModule

from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions
from service.vision.filters import Filters
from tests.trainer.conftest import one_thread
from tests.trainer.small_run import STILL, Run, run_config
from trainer.configuration import ConfigError
from trainer.embedder import export
from trainer.embedder.aligned_crops import AlignedCrops, centre_crops, load_aligned_crops
from trainer.embedder.augmentation import centre_tensor
from trainer.embedder.checkpoints import load_encoder
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.module import EmbedderModule
from trainer.embedder.stage_config import StageConfig

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's hints on loaders, loggers and precision


@pytest.fixture(scope="module")
def crops(identity_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AlignedCrops:
    """Divides the crops of two people and their mirror pictures among ten identities, so that some of them validate."""
    two = load_aligned_crops(identity_folder, None, tmp_path_factory.mktemp("cache"))
    names = [f"{name}-{min(row % 12, 9) // 2}" for row, name in enumerate(two.identities)]
    return AlignedCrops(np.concatenate([two.pictures, two.pictures[:, :, ::-1]]), 2 * names)


@pytest.fixture(scope="module")
def base(crops: AlignedCrops, tmp_path_factory: pytest.TempPathFactory) -> Run:
    with one_thread():
        return Run(tmp_path_factory.mktemp("base"), run_config(), crops)


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # key: (change of the run, change of the stage)
    "backbone": ({"backbone": "resnet18"}, {}),
    "embedding_dim": ({"embedding_dim": 16}, {}),
    "input_size": ({"input_size": 96}, {}),
    "blends": ({"blends": 40}, {"images_per_identity": None, "losses": {"softmax": 1.0}}),
    "filters": ({"filters": {"clahe": {"clip_limit": 3}, "bilateral": {}}}, {}),
    "dropout": ({"dropout": 0.5}, {}),
    "scaling": ({"scaling": {"mean": [0.5, 0.4, 0.3], "deviation": [0.2, 0.2, 0.3]}}, {}),
    "seed": ({"seed": 1}, {}),
    "precision": ({"precision": "bf16-mixed"}, {}),
    "min_images_per_class": ({"min_images_per_class": 5}, {}),
    "split": ({"split": {"validation": 0.3}}, {}),
    "augmentation": ({"augmentation": {**STILL, "rotation_degrees": 20}}, {}),
    "limit_train_batches": ({"limit_train_batches": 1}, {}),
    "epochs": ({}, {"epochs": 3}),
    "batch_size": ({}, {"batch_size": 4, "images_per_identity": 2}),
    "images_per_identity": ({}, {"images_per_identity": 2}),
    "optimizer": ({}, {"optimizer": "sgd"}),
    "learning_rate": ({}, {"learning_rate": 1e-2}),
    "weight_decay": ({}, {"weight_decay": 0.5}),
    "schedule": ({}, {"schedule": "cosine"}),
    "warm_up": ({}, {"warm_up": 0.6}),
    "accumulate": ({}, {"accumulate": 2}),
    "gradient_clip": ({}, {"gradient_clip": 1e-3, "optimizer": "sgd"}),
    "freeze_batch_norm": ({}, {"freeze_batch_norm": True}),
    "train_backbone": ({}, {"train_backbone": False}),
    "unfrozen_stages": ({}, {"train_backbone": False, "unfrozen_stages": 2}),
    "ema": ({}, {"ema": 0.9}),
    "losses": ({}, {"losses": {"arcface": {"scale": 16}}}),
    "stage augmentation": ({}, {"augmentation": {**STILL, "light": 0.5}}),
}
TESTED_SEPARATELY = {
    "name", "identities_per_batch", "early_stopping", "keep_best", "monitor", "compile", "deterministic", "pretrained",
    "mirror_average", "stages", "landmark_channels", "mode",
    "devices", "num_workers", "pin_memory", "persistent_workers", "limit_val_batches", "enable_progress_bar",
    "log_every_n_steps", "checkpoint_interval",
}  # fmt: skip
"""Keys that do not change the weights; other tests check their effects."""


def test_every_key_is_tested() -> None:
    keys = set(EmbedderConfig.model_fields) | set(StageConfig.model_fields)
    assert keys == (set(CHANGES) | TESTED_SEPARATELY) - {"stage augmentation"}


@pytest.mark.parametrize("key", CHANGES)
def test_key_changes_the_weights(key: str, base: Run, crops: AlignedCrops, tmp_path: Path) -> None:
    run, stage = CHANGES[key]
    changed = Run(tmp_path / "changed", run_config(run, stage), crops).weights
    without = [{name: value for name, value in part.items() if name != key.rpartition(" ")[2]} for part in (run, stage)]
    unchanged = (Run(tmp_path / "without", run_config(*without), crops) if any(without) else base).weights
    assert changed.isfinite().all()
    assert changed.shape != unchanged.shape or not torch.allclose(changed, unchanged, atol=1e-7)


def test_losses_are_logged_by_name(crops: AlignedCrops, tmp_path: Path) -> None:
    losses = {"triplet": {"margin": "soft"}, "softmax": {"weight": {"start": 1, "end": 0.1}}, "adaface": 0.1}
    run = Run(tmp_path, run_config(stage={"losses": losses, "epochs": 6}), crops)
    assert {"loss_triplet", "loss_softmax", "loss_adaface"} <= set(run.log.splitlines()[0].split(","))


def test_inconsistent_stage_settings_are_rejected() -> None:
    for change, message in (
        ({"identities_per_batch": 3}, r"3 x 4 = 12, but batch_size is 8; make them equal"),
        ({"batch_size": 10}, "not a multiple of images_per_identity 4"),
        ({"images_per_identity": None, "identities_per_batch": 2}, "images_per_identity is not; set both or neither"),
        ({"images_per_identity": None}, "set images_per_identity"),
        ({"unfrozen_stages": 2}, "set train_backbone: false"),
        ({"momentum": 0.9}, "Extra inputs"),
        ({"optimizer": {"name": "sgd", "momentum": 0, "nesterov": True}}, "nesterov needs a momentum above 0"),
        ({"optimizer": {"name": "adamw", "momentum": 0.9}}, "Extra inputs"),
        ({"schedule": {"name": "cosine", "milestones": [0.5]}}, "Extra inputs"),
    ):
        with pytest.raises(ValueError, match=message):
            run_config(stage=change)
    assert run_config(stage={"identities_per_batch": 2}).stages[0].identities_per_batch == 2


def test_best_checkpoints_are_selected_by_the_monitor(crops: AlignedCrops, tmp_path: Path) -> None:
    config = run_config({"keep_best": 2, "monitor": "rank_1", "seed": 3}, {"epochs": 4})
    run = Run(tmp_path, config, crops)
    assert len(list(run.folder.glob("epoch=*-rank_1=*.ckpt"))) == 2
    head, *lines = (line.split(",") for line in run.log.splitlines())
    measured = [float(line[head.index("rank_1")]) for line in lines if line[head.index("rank_1")]]
    assert json.loads((run.folder / "finished.json").read_text())["rank_1"] == pytest.approx(max(measured), abs=1e-6)
    best = torch.load(run.best, map_location="cpu", weights_only=True)
    assert measured[best["epoch"]] == max(measured)


def test_training_options_change_logs_and_checkpoints_but_no_weights(
    base: Run, crops: AlignedCrops, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    options = {
        "log_every_n_steps": 1,
        "checkpoint_interval": 2,
        "enable_progress_bar": False,
        "num_workers": 1,
        "persistent_workers": True,
        "limit_val_batches": 1,
    }
    run = Run(tmp_path / "options", run_config(options, {"epochs": 3}), crops)
    assert torch.load(run.folder / "last.ckpt", map_location="cpu", weights_only=True)["epoch"] == 1
    head, *rows = (line.split(",") for line in run.log.splitlines())
    steps = [int(row[head.index("step")]) for row in rows if row[head.index("loss")]]
    assert steps == list(range(len(steps)))
    log = (run.folder.parent / "training.log").read_text()
    assert "stage 1 of 1 (one): epoch 3 of 3: loss" in log
    assert "━" not in capfd.readouterr().out
    without = Run(tmp_path / "without", run_config({}, {"epochs": 3}), crops)
    torch.testing.assert_close(run.weights, without.weights)


def test_unknown_monitor_names_the_logged_metrics() -> None:
    with pytest.raises(ValueError, match=r"'rank1' is not logged in every stage; use tar, rank_1.*mean rank_1"):
        run_config({"monitor": "rank1"})
    assert run_config({"monitor": "loss_triplet", "mode": "min"}).mode == "min"
    assert "accuracy" in run_config({"split": {"by": "picture"}}, {"losses": {"softmax": 1}}).metrics


def test_more_gpus_than_the_machine_has_are_rejected(crops: AlignedCrops, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="device"):
        Run(tmp_path, run_config({"devices": [0, 98]}), crops, device="cuda")


def test_every_stage_is_checked_before_the_first_one_starts(crops: AlignedCrops, tmp_path: Path) -> None:
    config = run_config()
    second = config.stages[0].model_copy(update={"name": "two", "batch_size": 4000})
    with pytest.raises(ConfigError, match=r"stage 'two'.*do not fill a batch of 4000"):
        Run(tmp_path, config.model_copy(update={"stages": [config.stages[0], second]}), crops)
    assert not (tmp_path / "run" / "1-one").exists()


def test_early_stopping_ends_the_stage(crops: AlignedCrops, tmp_path: Path) -> None:
    stage = {"epochs": 40, "early_stopping": 2, "learning_rate": 1e-9}
    run = Run(tmp_path, run_config(stage=stage), crops)
    assert torch.load(run.folder / "last.ckpt", map_location="cpu", weights_only=True)["epoch"] < 20
    with pytest.raises(ConfigError, match=r"early_stopping needs validation people; raise split\.validation"):
        Run(tmp_path / "nobody", run_config({"split": {"validation": 0}}, stage), crops)


def test_moving_average_of_weights_is_stored(crops: AlignedCrops, tmp_path: Path) -> None:
    run = Run(tmp_path, run_config(stage={"ema": 0.99}), crops)
    saved = torch.load(run.best, map_location="cpu", weights_only=True)
    key = "encoder.head.1.weight"
    assert not torch.equal(saved["state_dict"][key], saved["current_model_state"][key])
    torch.testing.assert_close(load_encoder(run.best)[0].state_dict()["head.1.weight"], saved["state_dict"][key])


@pytest.mark.parametrize(("enabled", "compiler"), [(True, "g++"), (True, None), (False, "g++")])
def test_encoder_is_compiled_if_enabled_and_possible(
    enabled: bool, compiler: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: compiler)
    module = EmbedderModule(run_config({"compile": enabled}), 0, people=2, steps=1)
    with caplog.at_level("INFO"):
        module.on_fit_start()
    assert isinstance(module._embed[0], OptimizedModule) is (enabled and compiler is not None)
    assert ("needs g++" in caplog.text) is (enabled and compiler is None)


def test_deterministic_run_uses_deterministic_algorithms(crops: AlignedCrops, tmp_path: Path) -> None:
    try:
        Run(tmp_path, run_config({"deterministic": True}), crops)
        assert torch.are_deterministic_algorithms_enabled()
    finally:
        torch.use_deterministic_algorithms(False)


def test_bundle_records_the_preprocessing(crops: AlignedCrops, tmp_path: Path) -> None:
    provenance = {"data": ["x"], "terms": "test", "initialised_from": "random"}
    changes = {
        "backbone": "residual_small",
        "input_size": 112,
        "mirror_average": True,
        "filters": {"clahe": {"tiles": 4, "clip_limit": 20}, "bilateral": {"diameter": 7}},
    }
    run = Run(tmp_path, run_config(changes), crops)
    manifest = export.export(run.best, tmp_path / "bundle", "tiny-test", provenance)
    assert (manifest.mirror_average, manifest.input_size) == (True, 112)
    encoder, config = load_encoder(run.best)
    pictures = np.array(crops.pictures[:6])
    with torch.inference_mode():
        eager = torch.nn.functional.normalize(
            encoder(centre_tensor(torch.from_numpy(pictures), 112, config.filters))
        ).numpy()
    embedder = FaceEmbedder(tmp_path / "bundle", RuntimeOptions())
    object.__setattr__(embedder.manifest, "mirror_average", False)
    served = embedder.embed(centre_crops(pictures))
    assert float((served * eager).sum(axis=1).min()) > 0.99999
    object.__setattr__(embedder.manifest, "filters", Filters())
    assert float((embedder.embed(centre_crops(pictures)) * eager).sum(axis=1).min()) < 0.9999


def test_unsupported_device_or_number_of_processes_is_rejected(crops: AlignedCrops, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot train on device tpu with precision 32-true"):
        Run(tmp_path, run_config(), crops, device="tpu")
    with pytest.raises(ConfigError, match="3 processes cannot share a batch of 8"):
        Run(tmp_path / "three", run_config(), crops, processes=3)
