"""Checks that every key of every configuration has an effect.

Keys of losses, augmentation, landmark channels, shape model and classifier are changed and their results compared.
Keys of a run and its stages are tested in test_recipes.
"""

import ast
import importlib
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from service.inference.embedder import FaceEmbedder
from service.inference.graph import RuntimeOptions
from service.runtime.settings import BUNDLES
from tests.trainer.conftest import one_thread
from tests.trainer.small_run import STILL
from tests.trainer.test_shape import people
from trainer.classifier import fitting
from trainer.classifier.config import ClassifierConfig
from trainer.configuration import ConfigError, Configuration
from trainer.embedder.aligned_crops import load_aligned_crops
from trainer.embedder.augmentation import Augmentation
from trainer.embedder.input_config import AugmentationConfig, LandmarkChannelsConfig
from trainer.embedder.loss_config import LossesConfig
from trainer.embedder.losses import StageLoss
from trainer.shape.autoencoder import ShapeErrors, train
from trainer.shape.config import ShapeConfig

TRAINER = Path(__file__).parents[2] / "trainer"
MULTI_SIMILARITY = {"name": "MultiSimilarityLoss"}
LOSS_KEYS: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
    # loss, its settings, the changed settings
    ("triplet", {}, {"mining": "semi-hard"}),
    ("triplet", {}, {"margin": 0.5}),
    ("triplet", {}, {"margin": "soft"}),
    ("arcface", {}, {"margin_degrees": 10}),
    ("arcface", {}, {"scale": 16}),
    ("cosface", {}, {"margin": 0.1}),
    ("cosface", {}, {"scale": 16}),
    ("adaface", {}, {"margin": 0.1}),
    ("adaface", {}, {"concentration": 0.1}),
    ("adaface", {}, {"scale": 16}),
    ("softmax", {}, {"label_smoothing": 0.2}),
    ("softmax", {}, {"scale": 16}),
    *((name, {}, {"weight": 0.5}) for name in LossesConfig.model_fields if name != "metric_learning"),
    ("metric_learning", MULTI_SIMILARITY, {"weight": 0.5}),
    ("metric_learning", MULTI_SIMILARITY, {"name": "ContrastiveLoss"}),
    ("metric_learning", MULTI_SIMILARITY, {"arguments": {"base": 0.1}}),
    ("metric_learning", MULTI_SIMILARITY, {"miner": {"name": "BatchEasyHardMiner"}}),
    ("softmax", {"weight": {"start": 1, "end": 0.5}}, {"weight": {"start": 0.7, "end": 0.5}}),
    ("softmax", {"weight": {"start": 1, "end": 0.5}}, {"weight": {"start": 1, "end": 0.7}}),
    ("softmax", {"weight": {"start": 1, "end": 0.5}}, {"weight": {"start": 1, "end": 0.5, "shape": "cosine"}}),
]


def test_every_key_of_a_loss_is_tested() -> None:
    tried = {(name, key) for name, _, change in LOSS_KEYS for key in change}
    examples: dict[str, Any] = dict.fromkeys(LossesConfig.model_fields, 1) | {"metric_learning": "CircleLoss"}
    term = {name: type(getattr(LossesConfig.model_validate({name: value}), name)) for name, value in examples.items()}
    assert tried == {(name, key) for name, kind in term.items() for key in kind.model_fields}


@pytest.mark.parametrize(("name", "settings", "change"), LOSS_KEYS)
def test_key_of_a_loss_changes_its_value(name: str, settings: dict[str, Any], change: dict[str, Any]) -> None:
    labels = torch.tensor([0, 0, 1, 1, 2, 2])
    student = torch.randn(6, 4, generator=torch.Generator().manual_seed(0))
    teacher = torch.randn(6, 4, generator=torch.Generator().manual_seed(1))

    def value(term: dict[str, Any]) -> float:
        torch.manual_seed(2)
        loss = StageLoss(LossesConfig.model_validate({name: term or 1.0}), people=3, embedding_dim=4)
        map_error = torch.tensor(2.0) if name == "maps" else None
        return float(loss(student, teacher, labels, progress=0.2, map_error=map_error)[name].detach())

    assert value({**settings, **change}) != pytest.approx(value(settings), rel=1e-4)


def test_every_loss_of_the_library_can_be_named() -> None:
    """Builds losses of pairs and of classes, and checks that the sizes are set."""
    for name in (
        "CircleLoss",
        "NTXentLoss",
        "SupConLoss",
        "ProxyAnchorLoss",
        "SubCenterArcFaceLoss",
        "TripletMarginLoss",
    ):
        loss = StageLoss(LossesConfig.model_validate({"metric_learning": name}), people=3, embedding_dim=4)
        student = torch.randn(6, 4, requires_grad=True)
        value = loss(student, None, torch.tensor([0, 0, 1, 1, 2, -1]))["metric_learning"]
        value.backward()
        assert student.grad is not None
        assert student.grad[5].abs().sum() == 0  # a picture without a label
    for term, message in (
        ("CircelLoss", "has no 'CircelLoss'; did you mean CircleLoss?"),
        ({"name": "CircleLoss", "arguments": {"margn": 1}}, "CircleLoss: .*margn"),
        ({"name": "CircleLoss", "miner": {"name": "HardMiner"}}, r"metric_learning\.miner: .*has no 'HardMiner'"),
    ):
        with pytest.raises(ConfigError, match=message):
            StageLoss(LossesConfig.model_validate({"metric_learning": term}), people=3, embedding_dim=4)


RANGES = {name: 20 if name == "rotation_degrees" else 0.5 for name in STILL}


def test_every_range_of_the_augmentation_is_tested() -> None:
    assert set(RANGES) == set(AugmentationConfig.model_fields) - {"transforms"}


@pytest.mark.parametrize("key", RANGES)
def test_range_of_the_augmentation_changes_pictures(key: str) -> None:
    crops = torch.from_numpy(np.random.default_rng(0).integers(0, 256, (16, 160, 160, 3), np.uint8))

    def changed(settings: dict[str, float]) -> torch.Tensor:
        torch.manual_seed(0)
        return Augmentation(AugmentationConfig.model_validate({**STILL, **settings}))(crops)

    assert (changed({key: RANGES[key]}) - changed({})).abs().mean() > 1e-2


CHANNEL_KEYS = {"layout": "points", "sigma": 2.0, "mask": False, "missing": 1.0}


@pytest.mark.parametrize("key", LandmarkChannelsConfig.model_fields)
def test_key_of_the_landmark_channels_changes_them(key: str) -> None:
    crops, points = torch.zeros(4, 160, 160, 3, dtype=torch.uint8), torch.rand(4, 6, 3) * 80 + 40

    def drawn(settings: dict[str, Any]) -> torch.Tensor:
        torch.manual_seed(0)
        channels = LandmarkChannelsConfig.model_validate({"missing": 0, **settings})
        return Augmentation(AugmentationConfig.model_validate(STILL), channels=channels)(crops, points)

    plain, other = drawn({}), drawn({key: CHANNEL_KEYS[key]})
    assert plain.shape != other.shape or not torch.allclose(plain, other)


SHAPE = {"epochs": 2, "batch_size": 32, "hidden": 8, "code": 4}
SHAPE_KEYS: dict[str, Any] = {
    "frontal_degrees": 30.0, "fewest_frontal": 5, "hidden": 16, "code": 3, "noise": 0.2, "epochs": 3, "batch_size": 16,
    "learning_rate": 0.02, "seed": 1, "roll": True, "split": {"validation": 0.2, "calibration": 0.3},
}  # fmt: skip


@pytest.fixture(scope="module")
def plain_shape(tmp_path_factory: pytest.TempPathFactory) -> ShapeErrors:
    with one_thread():
        return train(people(80, 15), ShapeConfig.model_validate(SHAPE), tmp_path_factory.mktemp("shape"))


@pytest.mark.parametrize("key", ShapeConfig.model_fields)
def test_key_of_the_landmark_autoencoder_changes_its_errors(key: str, plain_shape: ShapeErrors, tmp_path: Path) -> None:
    config = ShapeConfig.model_validate({**SHAPE, key: SHAPE_KEYS[key]})
    assert train(people(80, 15), config, tmp_path) != plain_shape


CLASSIFIER_KEYS = {
    "min_images_per_class": 4, "held_back": 0.5, "mirrored": False, "inverse_regularisation": 1.0, "steps": 11,
}  # fmt: skip
"""`top_k` only affects the report."""


def test_every_key_of_the_classifier_is_tested() -> None:
    assert set(CLASSIFIER_KEYS) == set(ClassifierConfig.model_fields) - {"top_k"}


@pytest.fixture(scope="module")
def embedder() -> FaceEmbedder:
    return FaceEmbedder(BUNDLES / "embedder", RuntimeOptions())


@pytest.mark.filterwarnings("ignore:lbfgs failed to converge")
@pytest.mark.parametrize("key", CLASSIFIER_KEYS)
def test_key_of_the_classifier_changes_its_weights(
    key: str, embedder: FaceEmbedder, ten_people: Path, tmp_path: Path
) -> None:
    crops = load_aligned_crops(ten_people, None, tmp_path)

    def weights(**settings: Any) -> Any:
        config = ClassifierConfig.model_validate({"min_images_per_class": 2, "steps": 10, **settings})
        return fitting.fit(embedder, crops, fitting.divide(crops, config), config)[0]

    plain, other = weights(), weights(**{key: CLASSIFIER_KEYS[key]})
    assert plain.shape != other.shape or not np.allclose(plain, other)


def _configurations(base: type[Configuration] = Configuration) -> list[type[Configuration]]:
    nested = [each for kind in base.__subclasses__() for each in _configurations(kind)]
    return [kind for kind in [*base.__subclasses__(), *nested] if kind.__module__.startswith("trainer.")]


def test_every_key_of_every_configuration_is_used() -> None:
    for file in TRAINER.rglob("config.py"):
        importlib.import_module(".".join(file.relative_to(TRAINER.parent).with_suffix("").parts))
    nodes = [node for file in TRAINER.rglob("*.py") for node in ast.walk(ast.parse(file.read_text()))]
    read = {node.attr for node in nodes if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load)}
    unread = [f"{kind.__name__}.{key}" for kind in _configurations() for key in kind.model_fields if key not in read]
    assert len(_configurations()) > 20
    assert not unread
