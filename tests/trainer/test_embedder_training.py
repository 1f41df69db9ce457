"""Training of small embedders on real faces, by loss and by stage."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.trainer.small_embedder import CONFIG, embed
from trainer.configuration import ConfigError
from trainer.datasets.photos import SourcePart
from trainer.embedder import training
from trainer.embedder.aligned_crops import load_aligned_crops
from trainer.embedder.checkpoints import load_encoder
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.loss_config import LossesConfig, LossTerm
from trainer.embedder.split import Part, part_of
from trainer.embedder.split_config import SplitConfig
from trainer.embedder.stage_config import StageConfig

pytestmark = pytest.mark.filterwarnings("ignore")  # Lightning's hints on loaders, loggers and precision


def test_batch_hard_training_separates_two_people(trained: Path, identity_folder: Path, tmp_path: Path) -> None:
    embeddings, names = embed(trained, identity_folder, tmp_path)
    scores = embeddings @ embeddings.T
    same = np.equal.outer(names, names)
    assert scores[same].min() > scores[~same].max()


def test_same_seed_produces_same_weights(trained: Path, identity_folder: Path, tmp_path: Path) -> None:
    crops = load_aligned_crops(identity_folder, None, tmp_path / "cache")
    again = training.train(CONFIG, crops, (), tmp_path / "cache", tmp_path / "run")
    for one, other in zip(load_encoder(trained)[0].parameters(), load_encoder(again)[0].parameters(), strict=True):
        torch.testing.assert_close(one, other)


def test_frozen_batch_norms_keep_their_statistics(identity_folder: Path, tmp_path: Path) -> None:
    stage = CONFIG.stages[0].model_copy(update={"epochs": 1, "freeze_batch_norm": True})
    config = CONFIG.model_copy(update={"stages": [stage]})
    crops = load_aligned_crops(identity_folder, None, tmp_path)
    encoder, _ = load_encoder(training.train(config, crops, (), tmp_path, tmp_path / "run"))
    norms = [module for module in encoder.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    assert all((norm.running_var == 1).all() for norm in norms)
    assert any((norm.weight != 1).any() for norm in norms)


def test_margin_softmax_separates_two_people(identity_folder: Path, tmp_path: Path) -> None:
    losses = {"arcface": {"scale": 16.0}}
    stage = StageConfig.model_validate({**CONFIG.stages[0].model_dump(), "losses": losses})
    config = CONFIG.model_copy(update={"stages": [stage]})
    crops = load_aligned_crops(identity_folder, None, tmp_path)
    best = training.train(config, crops, (), tmp_path, tmp_path / "run")
    embeddings, names = embed(best, identity_folder, tmp_path)
    scores = embeddings @ embeddings.T
    same = np.equal.outer(names, names)
    assert scores[same].mean() > scores[~same].mean() + 0.5


def test_distillation_without_a_teacher_is_rejected(identity_folder: Path, tmp_path: Path) -> None:
    stage = CONFIG.stages[0].model_copy(update={"losses": LossesConfig(embedding=LossTerm())})
    config = EmbedderConfig.model_validate({**CONFIG.model_dump(), "stages": [stage.model_dump()]})
    with pytest.raises(ValueError, match="--teacher"):
        training.train(config, load_aligned_crops(identity_folder, None, tmp_path), (), tmp_path, tmp_path / "run")


def test_held_out_people_do_not_train(identity_folder: Path, tmp_path: Path) -> None:
    from trainer.embedder.data import FaceData

    split = SplitConfig(validation=0.5, calibration=0.5)
    stage = CONFIG.stages[0].model_copy(update={"images_per_identity": None})
    config = CONFIG.model_copy(update={"split": split, "stages": [stage]})
    data = FaceData(load_aligned_crops(identity_folder, None, tmp_path), None, config)
    assert len(data.training_rows) == 0
    names = {data.crops.identities[row] for row in data.validation_rows}
    assert names == {name for name in ("collins", "hopper") if part_of(name, split) is Part.VALIDATION}


def test_too_few_people_for_a_batch_are_rejected(identity_folder: Path, tmp_path: Path) -> None:
    crops = load_aligned_crops(identity_folder, None, tmp_path)
    for change, message in (
        ({"batch_size": 512}, "lower batch_size"),
        ({"batch_size": 12}, "lower batch_size to 8 or less"),
    ):
        config = CONFIG.model_copy(update={"stages": [CONFIG.stages[0].model_copy(update=change)]})
        with pytest.raises(ConfigError, match=message):
            training.train(config, crops, (), tmp_path, tmp_path / f"run-{change['batch_size']}")


def test_train_and_val_folders_are_parts(ten_people: Path, tmp_path: Path) -> None:
    from trainer.embedder.data import FaceData

    people = sorted(ten_people.iterdir())
    for number, person in enumerate(people):
        shutil.copytree(person, tmp_path / "crops" / ("val" if number < 3 else "train") / person.name)
    crops = load_aligned_crops(tmp_path / "crops", None, tmp_path)
    stage = CONFIG.stages[0].model_copy(update={"batch_size": 4})
    config = CONFIG.model_copy(update={"split": SplitConfig(validation=0.9, calibration=0.1), "stages": [stage]})
    data = FaceData(crops, None, config)
    assert {crops.identities[row] for row in data.validation_rows} == {person.name for person in people[:3]}
    assert {crops.identities[row] for row in data.training_rows} == {person.name for person in people[3:]}
    assert data.people == 7
    for picture in sorted((tmp_path / "crops" / "train" / people[3].name).iterdir())[:1]:
        (tmp_path / "crops" / "val" / people[3].name).mkdir()
        shutil.move(picture, tmp_path / "crops" / "val" / people[3].name)
    crops = load_aligned_crops(tmp_path / "crops", None, tmp_path)
    with pytest.raises(ConfigError, match=r"contain the same people .*they divide pictures"):
        FaceData(crops, None, config)
    closed = config.model_copy(update={"split": SplitConfig(by="picture", validation=0.5, calibration=0)})
    assert len(FaceData(crops, None, closed).validation_rows) == sum(
        part is SourcePart.HELD_OUT for part in crops.parts
    )
