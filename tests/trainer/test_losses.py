"""Losses and miner against answers computed by hand."""

import pytest
import torch

from trainer.embedder.config import LossWeights, StageConfig
from trainer.embedder.losses import StageLoss, embedding_distillation, similarity_distillation


def stage_loss(people: int = 2, **weights: float) -> StageLoss:
    stage = StageConfig(
        name="x", epochs=1, learning_rate=1e-3, triplet_margin=0.2, arcface_scale=4.0, losses=LossWeights(**weights)
    )
    return StageLoss(stage, people, embedding_dim=2)


def on_circle(*degrees: float) -> torch.Tensor:
    radians = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def chord(degrees: float) -> float:
    return float(2 * torch.sin(torch.deg2rad(torch.tensor(degrees / 2))))


def test_batch_hard_takes_the_farthest_of_its_own_and_the_nearest_of_the_others() -> None:
    embeddings = on_circle(0, 10, 40, 60, 100)
    labels = torch.tensor([0, 0, 0, 1, 1])
    loss = stage_loss(triplet=1.0)(embeddings, None, labels)["triplet"]
    pairs = [(40, 60), (30, 50), (40, 20), (40, 20), (40, 60)]
    """For each anchor: degrees to the hardest positive and to the hardest negative."""
    violations = [max(chord(positive) - chord(negative) + 0.2, 0.0) for positive, negative in pairs]
    active = [value for value in violations if value > 0]
    assert float(loss) == pytest.approx(sum(active) / len(active), abs=1e-4)


def test_people_well_apart_cost_nothing() -> None:
    loss = stage_loss(triplet=1.0)(on_circle(0, 1, 180, 181), None, torch.tensor([0, 0, 1, 1]))["triplet"]
    assert float(loss) == 0


def test_distillation_of_embeddings_is_one_minus_the_cosine() -> None:
    assert float(embedding_distillation(on_circle(0, 0), 3 * on_circle(0, 60))) == pytest.approx(0.25, abs=1e-6)


def test_distillation_of_similarities_ignores_a_common_rotation() -> None:
    assert float(similarity_distillation(on_circle(0, 50, 90), on_circle(30, 80, 120))) == pytest.approx(0, abs=1e-12)
    assert float(similarity_distillation(on_circle(0, 90), on_circle(0, 0))) == pytest.approx(1.0, abs=1e-6)


def test_weights_multiply_and_zero_leaves_out() -> None:
    losses = stage_loss(embedding=2.0, triplet=0.5)(on_circle(0, 60), on_circle(0, 0), torch.tensor([0, 1]))
    assert set(losses) == {"embedding", "triplet"}
    assert float(losses["embedding"]) == pytest.approx(2 * 0.25, abs=1e-6)


def test_a_distillation_without_a_teacher_is_an_error() -> None:
    with pytest.raises(ValueError, match="--teacher"):
        stage_loss(embedding=1.0)(on_circle(0, 1), None, torch.tensor([0, 1]))


def test_arcface_adds_its_margin_to_the_angle_of_the_own_centre() -> None:
    loss = stage_loss(arcface=1.0)
    centres = on_circle(0, 90).T
    with torch.no_grad():
        loss.get_parameter("_arcface.W").copy_(centres)
    own = torch.cos(torch.deg2rad(torch.tensor(30 + 28.6)))
    other = torch.cos(torch.deg2rad(torch.tensor(60.0)))
    expected = torch.log1p(torch.exp(4 * (other - own)))
    measured = loss(on_circle(30), None, torch.tensor([0]))["arcface"].detach()
    assert float(measured) == pytest.approx(float(expected), rel=1e-4)


def test_arcface_leaves_people_without_names_out() -> None:
    loss = stage_loss(arcface=1.0)
    embeddings = on_circle(30, 200)
    with_stranger = loss(embeddings, None, torch.tensor([0, -1]))["arcface"].detach()
    alone = loss(embeddings[:1], None, torch.tensor([0]))["arcface"].detach()
    assert float(with_stranger) == pytest.approx(float(alone))
