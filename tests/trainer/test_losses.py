"""Losses and miner against answers computed by hand."""

import pytest
import torch

from trainer.embedder.config import LossWeights, StageConfig
from trainer.embedder.losses import StageLoss, embedding_distillation, similarity_distillation


def stage(**weights: float) -> StageConfig:
    return StageConfig(name="x", epochs=1, learning_rate=1e-3, triplet_margin=0.2, losses=LossWeights(**weights))


def on_circle(*degrees: float) -> torch.Tensor:
    radians = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def chord(degrees: float) -> float:
    return float(2 * torch.sin(torch.deg2rad(torch.tensor(degrees / 2))))


def test_batch_hard_takes_the_farthest_of_its_own_and_the_nearest_of_the_others() -> None:
    embeddings = on_circle(0, 10, 40, 60, 100)
    labels = torch.tensor([0, 0, 0, 1, 1])
    loss = StageLoss(stage(triplet=1.0))(embeddings, None, labels)["triplet"]
    pairs = [(40, 60), (30, 50), (40, 20), (40, 20), (40, 60)]
    """For each anchor: degrees to the hardest positive and to the hardest negative."""
    violations = [max(chord(positive) - chord(negative) + 0.2, 0.0) for positive, negative in pairs]
    active = [value for value in violations if value > 0]
    assert float(loss) == pytest.approx(sum(active) / len(active), abs=1e-4)


def test_people_well_apart_cost_nothing() -> None:
    loss = StageLoss(stage(triplet=1.0))(on_circle(0, 1, 180, 181), None, torch.tensor([0, 0, 1, 1]))["triplet"]
    assert float(loss) == 0


def test_distillation_of_embeddings_is_one_minus_the_cosine() -> None:
    assert float(embedding_distillation(on_circle(0, 0), 3 * on_circle(0, 60))) == pytest.approx(0.25, abs=1e-6)


def test_distillation_of_similarities_ignores_a_common_rotation() -> None:
    assert float(similarity_distillation(on_circle(0, 50, 90), on_circle(30, 80, 120))) == pytest.approx(0, abs=1e-12)
    assert float(similarity_distillation(on_circle(0, 90), on_circle(0, 0))) == pytest.approx(1.0, abs=1e-6)


def test_weights_multiply_and_zero_leaves_out() -> None:
    losses = StageLoss(stage(embedding=2.0, triplet=0.5))(on_circle(0, 60), on_circle(0, 0), torch.tensor([0, 1]))
    assert set(losses) == {"embedding", "triplet"}
    assert float(losses["embedding"]) == pytest.approx(2 * 0.25, abs=1e-6)


def test_a_distillation_without_a_teacher_is_an_error() -> None:
    with pytest.raises(ValueError, match="--teacher"):
        StageLoss(stage(embedding=1.0))(on_circle(0, 1), None, torch.tensor([0, 1]))
