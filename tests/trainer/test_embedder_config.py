"""Training configurations of an embedder: the shipped one, and errors."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from tests.trainer.small_embedder import CONFIG
from trainer.configuration import ConfigError
from trainer.embedder.config import EmbedderConfig


@pytest.mark.parametrize(
    "change", [{"bckbone": "x"}, {"stages": []}, {"precision": "fp8"}, {"split": {"validation": 2}}]
)
def test_invalid_configuration_is_rejected(change: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        EmbedderConfig.model_validate({**CONFIG.model_dump(), **change})


def test_shipped_configuration_ends_with_batch_hard() -> None:
    last = EmbedderConfig.load(Path(__file__).parents[2] / "configs" / "train.yaml").stages[-1]
    assert last.losses.triplet is not None
    assert last.losses.triplet.mining == "batch-hard"
    assert last.images_per_identity


def test_configuration_error_names_the_key(tmp_path: Path) -> None:
    path = tmp_path / "train.yaml"
    path.write_text("backbone: resnet18\nsurprise: 1\nstages: [{name: x, epochs: 0, learning_rate: 1, losses: {}}]\n")
    with pytest.raises(ConfigError) as raised:
        EmbedderConfig.load(path)
    assert "surprise: there is no such key" in str(raised.value)
    path.write_text("bakbone: resnet18\nstages: [{name: x, epochs: 1, learning_rate: 1, losses: {softmax: 1}}]\n")
    with pytest.raises(ConfigError, match=r"bakbone: there is no such key; did you mean backbone\?"):
        EmbedderConfig.load(path)
    assert "stages.0.epochs: Input should be greater" in str(raised.value)
    with pytest.raises(ConfigError, match=r"missing\.yaml"):
        EmbedderConfig.load(tmp_path / "missing.yaml")
