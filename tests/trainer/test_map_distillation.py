"""Training a slim network from the feature maps of the network of which it was made."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from tests.trainer.slim_networks import network, slim_of, some_pictures
from tests.trainer.small_run import Run, run_config
from trainer.configuration import ConfigError
from trainer.embedder.aligned_crops import load_aligned_crops
from trainer.embedder.backbones.mobilenet_v1 import PUBLISHED, SLIM, MobileNetV1
from trainer.embedder.checkpoints import load_encoder
from trainer.embedder.map_distillation import MapDistillation
from trainer.embedder.slimming import PREDICTED

SLIM_RUN = {"backbone": "mobilenet_v1_slim", "input_size": 112, "embedding_dim": 128}
LOSSES = {"maps": 2.0, "embedding": 1.0, "similarity": 10.0}
STAGE = {"epochs": 1, "batch_size": 4, "images_per_identity": None, "losses": LOSSES}


def test_training_lowers_the_error_of_maps() -> None:
    original, slimmed = network(), slim_of(network())
    maps, unseen = MapDistillation(original, slimmed.predictors), some_pictures(8)
    projections = maps.projections(unseen)
    before = maps(slimmed.network, unseen, projections)
    torch.testing.assert_close(before.published, original(unseen))
    torch.testing.assert_close(before.embeddings, slimmed.network(unseen))
    optimizer = torch.optim.Adam([*slimmed.network.parameters(), *maps.parameters()], 1e-3)
    for _ in range(10):
        optimizer.zero_grad()
        maps(slimmed.network, unseen, projections).error.backward()
        optimizer.step()
    assert maps(slimmed.network, unseen, projections).error < 0.8 * before.error
    assert all(parameter.grad is None for parameter in original.parameters())


def test_random_projections_have_the_error_of_all_channels() -> None:
    original, slimmed = network(), slim_of(network())
    maps, unseen = MapDistillation(original, slimmed.predictors), some_pictures(4)
    with torch.inference_mode():
        exact = float(maps(slimmed.network, unseen, [torch.eye(8) for _ in PREDICTED]).error)
        errors = [float(maps(slimmed.network, unseen, maps.projections(unseen)).error) for _ in range(60)]
    assert np.mean(errors) == pytest.approx(exact, rel=0.1)


@pytest.fixture(scope="module")
def slim_weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights like those of `identity-trainer slim`, but random."""
    torch.manual_seed(0)
    predictors = {
        number: nn.Conv2d(SLIM.convolutions[number - 1], PUBLISHED.convolutions[number], 1) for number in PREDICTED
    }
    saved = {
        "state_dict": {f"encoder.{name}": value for name, value in MobileNetV1(128).state_dict().items()},
        "hyper_parameters": {},
        "published": MobileNetV1(128, widths=PUBLISHED).state_dict(),
        "predictors": {number: (item.weight.data, item.bias) for number, item in predictors.items()},
    }
    file = tmp_path_factory.mktemp("slim") / "slim.ckpt"
    torch.save(saved, file)
    return file


def test_a_stage_with_maps_needs_no_teacher(ten_people: Path, tmp_path: Path, slim_weights: Path) -> None:
    """The teacher's embeddings are those of the published network. Its weights are not in the checkpoint."""
    crops = load_aligned_crops(ten_people, None, tmp_path / "cache")
    config = run_config(SLIM_RUN | {"limit_train_batches": 2}, STAGE)
    run = Run(tmp_path, config, crops, initial=slim_weights)
    assert all(f"loss_{name}" in run.log for name in LOSSES)
    names = torch.load(run.best, weights_only=True)["state_dict"]
    assert {name.split(".")[0] for name in names} == {"encoder", "_maps"}
    assert {name.split(".")[1] for name in names if name.startswith("_maps")} == {"predictors"}
    encoder, _ = load_encoder(run.best)
    assert encoder(some_pictures(1)).shape == (1, 128)


def test_weights_that_slim_has_not_made_are_rejected(trained: Path, ten_people: Path, tmp_path: Path) -> None:
    crops = load_aligned_crops(ten_people, None, tmp_path / "cache")
    with pytest.raises(ConfigError, match="needs weights of `identity-trainer slim` as --initial"):
        Run(tmp_path / "none", run_config(SLIM_RUN, STAGE), crops)
    with pytest.raises(ConfigError, match="needs initial weights of `identity-trainer slim`, unlike"):
        Run(tmp_path / "other", run_config(SLIM_RUN, STAGE), crops, initial=trained)
