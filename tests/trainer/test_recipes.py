"""Changes each key of a training configuration once and checks its effect."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from torch._dynamo import OptimizedModule

from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions
from service.vision.filters import Filters
from tests.trainer.conftest import one_thread
from trainer.configuration import ConfigError
from trainer.embedder import export, training
from trainer.embedder.aligned_crops import AlignedCrops, centre_crops, load_aligned_crops
from trainer.embedder.augmentation import Augmentation, centre_tensor
from trainer.embedder.checkpoints import load_encoder
from trainer.embedder.config import AugmentationConfig, EmbedderConfig, LandmarkChannelsConfig, StageConfig
from trainer.embedder.module import EmbedderModule
from trainer.embedder.optimisation import build_optimizer, build_schedule

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's hints on loaders, loggers and precision

STILL = {
    "rotation_degrees": 0, "shift": 0, "scale": 0, "flip": 0, "light": 0, "greyscale": 0, "low_resolution": 0,
    "occlusion": 0,
}  # fmt: skip
STAGE = {
    "name": "one",
    "epochs": 2,
    "batch_size": 8,
    "images_per_identity": 4,
    "learning_rate": 1e-3,
    "losses": {"triplet": 1.0},
}
RUN = {
    "backbone": "shufflenet_v2_x0_5",
    "input_size": 64,
    "embedding_dim": 8,
    "compile": False,
    "precision": "32-true",
    "split": {"validation": 0.5, "calibration": 0.0},
    "augmentation": STILL,
}
"""A small model that trains in seconds."""


def run_config(run: dict[str, Any] | None = None, stage: dict[str, Any] | None = None) -> EmbedderConfig:
    return EmbedderConfig.model_validate({**RUN, **(run or {}), "stages": [{**STAGE, **(stage or {})}]})


@pytest.fixture(scope="module")
def crops(identity_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> AlignedCrops:
    """Divides the crops of two people and their mirror pictures among ten identities, so that some of them validate."""
    two = load_aligned_crops(identity_folder, None, tmp_path_factory.mktemp("cache"))
    names = [f"{name}-{min(row % 12, 9) // 2}" for row, name in enumerate(two.identities)]
    return AlignedCrops(np.concatenate([two.pictures, two.pictures[:, :, ::-1]]), 2 * names)


class Run:
    """Trains, and gives access to weights, folder and log of the run."""

    def __init__(self, folder: Path, config: EmbedderConfig, crops: AlignedCrops, **options: Any) -> None:
        self.best = training.train(config, crops, None, folder / "cache", folder / "run", **options)
        self.folder = self.best.parent

    @property
    def weights(self) -> torch.Tensor:
        return torch.cat([value.flatten().float() for value in load_encoder(self.best)[0].state_dict().values()])

    @property
    def log(self) -> str:
        return (self.folder / "csv" / "metrics.csv").read_text()


@pytest.fixture(scope="module")
def base(crops: AlignedCrops, tmp_path_factory: pytest.TempPathFactory) -> Run:
    with one_thread():
        return Run(tmp_path_factory.mktemp("base"), run_config(), crops)


CHANGES: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    # key: (change of the run, change of the stage)
    "backbone": ({"backbone": "resnet18"}, {}),
    "embedding_dim": ({"embedding_dim": 16}, {}),
    "input_size": ({"input_size": 96}, {}),
    "filters": ({"filters": {"clahe": {"clip_limit": 3}, "bilateral": {}}}, {}),
    "dropout": ({"dropout": 0.5}, {}),
    "seed": ({"seed": 1}, {}),
    "precision": ({"precision": "bf16-mixed"}, {}),
    "min_images_per_class": ({"min_images_per_class": 5}, {}),
    "split": ({"split": {"validation": 0.3}}, {}),
    "augmentation": ({"augmentation": {**STILL, "rotation_degrees": 20}}, {}),
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
    "mirror_average", "stages", "landmark_channels",
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


def rates(stage: dict[str, Any], steps: int = 20) -> list[float]:
    config = run_config(stage={"learning_rate": 1.0, **stage}).stages[0]
    optimizer = build_optimizer(config, [torch.nn.Parameter(torch.zeros(1))])
    schedule = build_schedule(config, optimizer, steps)
    values = []
    for _ in range(steps):
        values.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return values


def test_schedules_produce_their_rates() -> None:
    assert rates({"schedule": "constant", "warm_up": 0}) == [1.0] * 20
    warm_up = rates({"schedule": "constant", "warm_up": 0.5})
    assert warm_up[0] < 0.01
    assert warm_up[5] == pytest.approx(0.5, abs=0.01)
    assert warm_up[10:] == pytest.approx([1.0] * 10)
    cosine = rates({"schedule": "cosine", "warm_up": 0})
    assert cosine[10] == pytest.approx(0.5)
    assert cosine[-1] < 0.01
    steps = rates({"schedule": {"name": "multistep", "milestones": [0.25, 0.5], "factor": 0.5}, "warm_up": 0.1})
    assert [steps[row] for row in (2, 4, 5, 9, 10, 19)] == pytest.approx([1, 1, 0.5, 0.5, 0.25, 0.25])
    cycle = rates({"schedule": "one-cycle", "warm_up": 0.5})
    assert max(cycle) == pytest.approx(max(cycle[8:11]))


def test_optimisers_have_their_settings() -> None:
    weight = torch.nn.Parameter(torch.zeros(1))
    frozen = torch.nn.Parameter(torch.zeros(1), requires_grad=False)
    for optimizer_config, kind, settings in (
        ("adam", torch.optim.Adam, {"weight_decay": 0.05}),
        ({"name": "adamw", "betas": [0.8, 0.99]}, torch.optim.AdamW, {"betas": (0.8, 0.99)}),
        ({"name": "sgd", "momentum": 0.5, "nesterov": True}, torch.optim.SGD, {"momentum": 0.5, "nesterov": True}),
    ):
        optimizer = build_optimizer(run_config(stage={"optimizer": optimizer_config}).stages[0], [weight, frozen])
        assert type(optimizer) is kind
        (group,) = optimizer.param_groups
        assert {name: group[name] for name in settings} == settings
        assert len(group["params"]) == 1


@pytest.mark.parametrize(
    ("steps", "warm_up"), [(1, 0.1), (1, 1.0), (2, 0.5), (5, 0.2), (10, 0.1), (20, 0.05), (7, 0.0)]
)
def test_schedules_of_every_length_are_valid(steps: int, warm_up: float) -> None:
    for schedule in ("one-cycle", "cosine", "constant", "multistep"):
        values = rates({"schedule": schedule, "warm_up": warm_up}, steps)
        assert all(0 <= rate <= 1.0001 for rate in values)
        assert max(values) > 0.5 or schedule != "one-cycle"


def test_schedule_keeps_the_momentum() -> None:
    for optimizer, key in (
        ({"name": "sgd", "momentum": 0.5}, "momentum"),
        ({"name": "adamw", "betas": [0.5, 0.99]}, "betas"),
    ):
        stage = run_config(stage={"optimizer": optimizer, "schedule": "one-cycle"}).stages[0]
        built = build_optimizer(stage, [torch.nn.Parameter(torch.zeros(1))])
        build_schedule(stage, built, 20)
        assert built.param_groups[0][key] == (0.5 if key == "momentum" else (0.5, 0.99))


def test_best_checkpoints_are_selected_by_the_monitor(crops: AlignedCrops, tmp_path: Path) -> None:
    config = run_config({"keep_best": 2, "monitor": "rank_1", "seed": 3}, {"epochs": 4})
    run = Run(tmp_path, config, crops)
    assert len(list(run.folder.glob("epoch=*-rank_1=*.ckpt"))) == 2
    head, *lines = (line.split(",") for line in run.log.splitlines())
    measured = [float(line[head.index("rank_1")]) for line in lines if line[head.index("rank_1")]]
    assert json.loads((run.folder / "finished.json").read_text())["rank_1"] == pytest.approx(max(measured), abs=1e-6)
    best = torch.load(run.best, map_location="cpu", weights_only=True)
    assert measured[best["epoch"]] == max(measured)


def test_early_stopping_ends_the_stage(crops: AlignedCrops, tmp_path: Path) -> None:
    stage = {"epochs": 40, "early_stopping": 2, "learning_rate": 1e-9}
    run = Run(tmp_path, run_config(stage=stage), crops)
    assert torch.load(run.folder / "last.ckpt", map_location="cpu", weights_only=True)["epoch"] < 20
    with pytest.raises(ConfigError, match=r"early_stopping needs validation people; raise split\.validation"):
        Run(tmp_path / "nobody", run_config({"split": {"validation": 0}}, stage), crops)


def test_moving_average_of_weights_is_stored(crops: AlignedCrops, tmp_path: Path) -> None:
    run = Run(tmp_path, run_config(stage={"ema": 0.99}), crops)
    saved = torch.load(run.folder / "last.ckpt", map_location="cpu", weights_only=True)
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
        "filters": {"clahe": {"tiles": 4}, "bilateral": {"diameter": 7}},
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


def test_transforms_of_torchvision() -> None:
    pictures = torch.full((2, 160, 160, 3), 127, dtype=torch.uint8)
    recipe = [
        {"name": "RandomInvert", "arguments": {"p": 1.0}},
        {"name": "ColorJitter", "arguments": {"brightness": [2, 2]}, "probability": 0.0},
        {"name": "GaussianBlur", "arguments": {"kernel_size": 5}, "probability": 0.5},
    ]
    config = AugmentationConfig.model_validate({**STILL, "transforms": recipe})
    assert float(Augmentation(config)(pictures).mean()) == pytest.approx((255 - 127 - 127.5) / 128, abs=1e-3)
    for wrong, message in (
        ({"name": "Sharpness"}, "no 'Sharpness'"),
        ({"name": "functional"}, "no 'functional'"),
        ({"name": "GaussianBlur"}, "kernel_size"),
        ({"name": "RandomCrop", "arguments": {"size": 64}}, "changes the size"),
        ({"name": "JPEG", "arguments": {"quality": 50}}, "JPEG"),
    ):
        with pytest.raises(ConfigError, match=message):
            Augmentation(AugmentationConfig.model_validate({"transforms": [wrong]}))
    moved = AugmentationConfig.model_validate({"transforms": [{"name": "RandomHorizontalFlip"}]})
    with pytest.raises(ConfigError, match="moves pixels but not the landmarks"):
        Augmentation(moved, channels=LandmarkChannelsConfig())


def test_unsupported_device_or_number_of_processes_is_rejected(crops: AlignedCrops, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not support precision 32-true on device tpu"):
        Run(tmp_path, run_config(), crops, device="tpu")
    with pytest.raises(ConfigError, match="3 processes cannot share a batch of 8"):
        Run(tmp_path / "three", run_config(), crops, processes=3)


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
    assert "2 processes" in done.stderr
    both = load_encoder(tmp_path / "run" / "2-two" / "best.ckpt")[0].state_dict()
    crops = load_aligned_crops(identity_folder, None, tmp_path / "cache")
    alone = Run(tmp_path / "alone", EmbedderConfig.model_validate(config), crops)
    for name, value in load_encoder(alone.best)[0].state_dict().items():
        torch.testing.assert_close(both[name], value, atol=2e-4, rtol=1e-3)
