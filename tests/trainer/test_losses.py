"""Compares losses and miners with values computed by hand."""

import math

import pytest
import torch
from pydantic import ValidationError

from trainer.embedder.loss_config import LossesConfig
from trainer.embedder.losses import AdaFaceLoss, StageLoss, embedding_distillation, similarity_distillation


def stage_loss(people: int = 2, **losses: object) -> StageLoss:
    return StageLoss(LossesConfig.model_validate(losses), people, embedding_dim=2)


def on_circle(*degrees: float) -> torch.Tensor:
    radians = torch.deg2rad(torch.tensor(degrees))
    return torch.stack([radians.cos(), radians.sin()], dim=1)


def with_centres(loss: StageLoss, name: str, centres: torch.Tensor) -> StageLoss:
    with torch.no_grad():
        loss.get_parameter(name).copy_(centres)
    return loss


def cosine(degrees: float) -> float:
    return math.cos(math.radians(degrees))


def chord(degrees: float) -> float:
    return float(2 * torch.sin(torch.deg2rad(torch.tensor(degrees / 2))))


def test_batch_hard_selects_the_farthest_positive_and_the_nearest_negative() -> None:
    embeddings = on_circle(0, 10, 40, 60, 100)
    labels = torch.tensor([0, 0, 0, 1, 1])
    loss = stage_loss(triplet=1.0)(embeddings, None, labels)["triplet"]
    pairs = [(40, 60), (30, 50), (40, 20), (40, 20), (40, 60)]
    """For each anchor: degrees to the hardest positive and to the hardest negative."""
    violations = [max(chord(positive) - chord(negative) + 0.2, 0.0) for positive, negative in pairs]
    active = [value for value in violations if value > 0]
    assert float(loss) == pytest.approx(sum(active) / len(active), abs=1e-4)


def test_triplet_loss_of_separated_people_is_0() -> None:
    loss = stage_loss(triplet=1.0)(on_circle(0, 1, 180, 181), None, torch.tensor([0, 0, 1, 1]))["triplet"]
    assert float(loss) == 0


def test_embedding_distillation_is_1_minus_the_cosine() -> None:
    assert float(embedding_distillation(on_circle(0, 0), 3 * on_circle(0, 60))) == pytest.approx(0.25, abs=1e-6)


def test_similarity_distillation_ignores_a_common_rotation() -> None:
    assert float(similarity_distillation(on_circle(0, 50, 90), on_circle(30, 80, 120))) == pytest.approx(0, abs=1e-12)
    assert float(similarity_distillation(on_circle(0, 90), on_circle(0, 0))) == pytest.approx(1.0, abs=1e-6)


def test_losses_are_multiplied_by_their_weights() -> None:
    losses = stage_loss(embedding=2.0, triplet=0.5)(on_circle(0, 60), on_circle(0, 0), torch.tensor([0, 1]))
    assert set(losses) == {"embedding", "triplet"}
    assert float(losses["embedding"]) == pytest.approx(2 * 0.25, abs=1e-6)


def test_teacher_of_another_dimension_is_compared_after_a_learned_map() -> None:
    loss = StageLoss(LossesConfig.model_validate({"embedding": 1.0}), people=2, embedding_dim=2, teacher_dim=3)
    with_centres(loss, "to_teacher.weight", torch.tensor([[1.0, 0], [0, 1], [0, 0]]))
    teacher = torch.tensor([[0.0, 1.0, 0.0]])
    measured = loss(on_circle(30), teacher, torch.tensor([0]))["embedding"].detach()
    assert float(measured) == pytest.approx(1 - cosine(60), abs=1e-6)


def test_distillation_without_teacher_embeddings_is_an_error() -> None:
    with pytest.raises(ValueError, match="--teacher"):
        stage_loss(embedding=1.0)(on_circle(0, 1), None, torch.tensor([0, 1]))


def test_arcface_adds_its_margin_to_the_angle_of_the_right_centre() -> None:
    loss = with_centres(stage_loss(arcface={"scale": 4}), "terms.arcface.W", on_circle(0, 90).T)
    right = torch.cos(torch.deg2rad(torch.tensor(30 + 28.6)))
    other = torch.cos(torch.deg2rad(torch.tensor(60.0)))
    expected = torch.log1p(torch.exp(4 * (other - right)))
    measured = loss(on_circle(30), None, torch.tensor([0]))["arcface"].detach()
    assert float(measured) == pytest.approx(float(expected), rel=1e-4)


def test_arcface_ignores_unlabelled_pictures() -> None:
    loss = stage_loss(arcface=1.0)
    embeddings = on_circle(30, 200)
    with_unlabelled = loss(embeddings, None, torch.tensor([0, -1]))["arcface"].detach()
    alone = loss(embeddings[:1], None, torch.tensor([0]))["arcface"].detach()
    assert float(with_unlabelled) == pytest.approx(float(alone))


def test_semi_hard_ignores_hard_and_easy_negatives() -> None:
    loss = stage_loss(triplet={"mining": "semi-hard", "margin": 0.2})
    embeddings, labels = on_circle(0, 30, 20, 36, 90), torch.tensor([0, 0, 1, 2, 3])
    measured = loss(embeddings, None, labels)["triplet"]
    # The anchor at 0 has one negative (36) that is farther away than its positive (30) by less than the margin. For the
    # anchor at 30 the negatives at 20 and 36 are nearer than the positive, and the one at 90 is beyond the margin.
    assert float(measured) == pytest.approx(chord(30) - chord(36) + 0.2, abs=1e-4)


def test_soft_margin_loss_is_always_positive() -> None:
    loss = stage_loss(triplet={"margin": "soft"})
    measured = loss(on_circle(0, 10, 180), None, torch.tensor([0, 0, 1]))["triplet"]
    expected = [math.log1p(math.exp(chord(10) - chord(180))), math.log1p(math.exp(chord(10) - chord(170)))]
    assert float(measured) == pytest.approx(sum(expected) / 2, abs=1e-4)


def test_cosface_subtracts_its_margin_from_the_cosine_of_the_right_centre() -> None:
    loss = with_centres(stage_loss(cosface={"scale": 4, "margin": 0.35}), "terms.cosface.W", on_circle(0, 90).T)
    measured = loss(on_circle(30), None, torch.tensor([0]))["cosface"].detach()
    expected = math.log1p(math.exp(4 * (cosine(60) - (cosine(30) - 0.35))))
    assert float(measured) == pytest.approx(expected, rel=1e-4)


def test_softmax_is_the_cross_entropy_of_a_linear_classifier() -> None:
    loss = with_centres(stage_loss(softmax=1.0), "terms.softmax.classifier.weight", torch.eye(2))
    with_centres(loss, "terms.softmax.classifier.bias", torch.tensor([0.0, 0.5]))
    measured = loss(torch.tensor([[2.0, 1.0]]), None, torch.tensor([0]))["softmax"].detach()
    assert float(measured) == pytest.approx(math.log1p(math.exp(1.5 - 2.0)), rel=1e-5)


@pytest.mark.parametrize(("length", "quality"), [(11.0, -1.0), (20.0, 0.0), (21.5, 0.5), (29.0, 1.0)])
def test_adaface_margin_grows_with_quality(length: float, quality: float) -> None:
    """30 degrees from the right centre and 60 from the other one; margin 0.4 rad, mean length 20, deviation 1."""
    loss = stage_loss(adaface={"scale": 4, "concentration": 1 / 3}).eval()
    with_centres(loss, "terms.adaface.centres", on_circle(0, 90))
    loss.get_buffer("terms.adaface.length_std").fill_(1.0)
    embeddings = (length * on_circle(30)).requires_grad_()
    value = loss(embeddings, None, torch.tensor([0]))["adaface"]
    right = math.cos(math.radians(30) - 0.4 * quality) - 0.4 * (1 + quality)
    assert float(value.detach()) == pytest.approx(math.log1p(math.exp(4 * (cosine(60) - right))), rel=2e-3)
    value.backward()
    assert embeddings.grad is not None
    # Only the direction is trained: the length, which indicates quality, has no gradient.
    assert float((embeddings.grad * embeddings.detach()).sum()) == pytest.approx(0, abs=1e-5)


def test_adaface_gradient_matches_finite_differences() -> None:
    loss = AdaFaceLoss(people=3, embedding_dim=4, margin=0.4, concentration=0.333, scale=8.0).double().eval()
    loss.length_mean.fill_(1.0)
    loss.length_std.fill_(1.0)
    embeddings = torch.randn(5, 4, dtype=torch.double, generator=torch.Generator().manual_seed(0))
    embeddings = torch.nn.functional.normalize(embeddings)  # length 1, so the quality is always 0
    labels = torch.tensor([0, 1, 2, 0, 1])

    def tangential(angle: torch.Tensor) -> torch.Tensor:
        turned = embeddings.clone()
        turned[:, 0] = embeddings[:, 0] * angle.cos() - embeddings[:, 1] * angle.sin()
        turned[:, 1] = embeddings[:, 0] * angle.sin() + embeddings[:, 1] * angle.cos()
        return loss(turned, labels)

    torch.autograd.gradcheck(tangential, torch.zeros(5, dtype=torch.double, requires_grad=True))


def test_adaface_tracks_mean_and_deviation_of_lengths() -> None:
    loss = AdaFaceLoss(people=2, embedding_dim=2, margin=0.4, concentration=0.333, scale=8.0)
    for _ in range(1000):
        loss(torch.cat([4 * on_circle(0), 6 * on_circle(90)]), torch.tensor([0, 1]))
    assert float(loss.length_mean) == pytest.approx(5.0, abs=0.1)
    assert float(loss.length_std) == pytest.approx(math.sqrt(2), abs=0.1)


@pytest.mark.parametrize(
    ("shape", "progress", "weight"), [("linear", 0.25, 0.75), ("cosine", 0.25, 0.8536), ("cosine", 1.0, 0.0)]
)
def test_scheduled_weight_changes_during_the_stage(shape: str, progress: float, weight: float) -> None:
    loss = stage_loss(embedding={"weight": {"start": 1.0, "end": 0.0, "shape": shape}})
    measured = loss(on_circle(60), on_circle(0), torch.tensor([0]), progress)["embedding"]
    assert float(measured) == pytest.approx(weight * 0.5, abs=1e-4)


@pytest.mark.parametrize(
    "losses", [{}, {"triplet": 0}, {"triplets": 1}, {"arcface": {"margin": 1}}, {"triplet": {"margin": "hard"}}]
)
def test_invalid_losses_are_rejected(losses: dict[str, object]) -> None:
    with pytest.raises(ValidationError):
        LossesConfig.model_validate(losses)


LOSSES = {
    "batch-hard": {"triplet": {"margin": 0.3}},
    "soft margin": {"triplet": {"margin": "soft"}},
    "semi-hard": {"triplet": {"mining": "semi-hard", "margin": 0.5}},
    "arcface": {"arcface": {"scale": 16, "margin_degrees": 20}},
    "cosface": {"cosface": {"scale": 16, "margin": 0.2}},
    "adaface": {"adaface": {"scale": 16}},
    "softmax": {"softmax": 1.0},
    "combined": {"triplet": 0.5, "softmax": {"weight": {"start": 1, "end": 0.1}}, "adaface": {"weight": 0.1}},
}


@pytest.mark.parametrize("name", LOSSES)
def test_every_loss_separates_people(name: str) -> None:
    torch.manual_seed(0)
    loss = StageLoss(LossesConfig.model_validate(LOSSES[name]), people=3, embedding_dim=8)
    embeddings = torch.nn.Parameter(torch.randn(12, 8))
    labels = torch.arange(12) // 4
    optimizer = torch.optim.Adam([embeddings, *loss.parameters()], lr=0.03)
    for step in range(150):
        optimizer.zero_grad()
        torch.stack(list(loss(embeddings, None, labels, step / 150).values())).sum().backward()
        optimizer.step()
    normalised = torch.nn.functional.normalize(embeddings.detach())
    cosines, same = normalised @ normalised.T, labels[:, None] == labels[None, :]
    assert float(cosines[same].mean()) > float(cosines[~same].mean()) + 0.5


def test_batch_of_unlabelled_pictures_has_a_gradient_for_every_centre() -> None:
    loss = stage_loss(softmax=1.0, adaface=1.0)
    values = loss(on_circle(0, 90).requires_grad_(), None, torch.tensor([-1, -1]))
    torch.stack(list(values.values())).sum().backward()
    assert all(parameter.grad is not None and not parameter.grad.any() for parameter in loss.parameters())
