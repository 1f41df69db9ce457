"""Fits the cohort of an embedder on embeddings: see `service.inference.cohort`.

No label of a group is used. Two pictures of a labelled person stay close to each other and apart from other people, and
the density of faces becomes equal around all unlabelled faces.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from sklearn.cluster import MiniBatchKMeans
from torch import Tensor, nn

from service.inference.cohort import MAX_BYTES, Cohort
from trainer.configuration import ConfigError
from trainer.embedder.cohort_config import CohortConfig
from trainer.progress import track

Floats = npt.NDArray[np.float32]
SHARPNESS_RATE = 1.0
STRENGTH_RATE = 10.0
"""Learning rates of the sharpness and of the strengths, as multiples of that of the corrections."""
HEADER_BYTES = 128


@dataclass(frozen=True)
class Faces:
    """What a cohort is fitted on: embeddings before the correction.

    Attributes:
        people: For each labelled person the (n, dim) normalised embeddings of at least two pictures.
        unlabelled: (m, dim) normalised embeddings of unknown people of many kinds, one picture of each.
    """

    people: Sequence[Floats]
    unlabelled: Floats


class CohortModule(nn.Module):
    """A cohort with trainable corrections: at each centre a share of the centre, and a free part."""

    def __init__(self, centres: Floats, sharpness: float, strength: float) -> None:
        super().__init__()
        self.centres: Tensor
        self.register_buffer("centres", torch.from_numpy(centres))
        self.strength = nn.Parameter(torch.full((len(centres), 1), math.log(strength / (1 - strength))))
        self.free = nn.Parameter(torch.zeros(centres.shape))
        self.log_sharpness = nn.Parameter(torch.tensor(math.log(sharpness)))

    @property
    def corrections(self) -> Tensor:
        return torch.sigmoid(self.strength) * self.centres + self.free

    def forward(self, embeddings: Tensor) -> Tensor:
        weights = F.softmax(self.log_sharpness.exp() * (embeddings @ self.centres.T), dim=1)
        return F.normalize(embeddings - weights @ self.corrections, dim=1)

    @torch.no_grad()
    def cohort(self) -> Cohort:
        sharpness = float(f"{float(self.log_sharpness.exp()):.4g}")
        return Cohort(self.centres.numpy(), self.corrections.numpy(), sharpness)


def fit(faces: Faces, config: CohortConfig) -> Cohort:
    """Returns the fitted cohort.

    Raises:
        ConfigError: There are too few faces, or the cohort would be larger than `MAX_BYTES`.
    """
    require_enough(faces, config)
    torch.manual_seed(config.seed)
    generator = np.random.default_rng(config.seed)
    module = CohortModule(_centres(faces.unlabelled, config), config.sharpness, config.strength)
    rate = config.learning_rate
    groups: list[dict[str, Any]] = [
        {"params": [module.free], "lr": rate},
        {"params": [module.strength], "lr": rate * STRENGTH_RATE},
        {"params": [module.log_sharpness], "lr": rate * SHARPNESS_RATE},
    ]
    optimiser = torch.optim.Adam(groups)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, [group["lr"] for group in groups], config.steps)
    for _ in track(range(config.steps), description="fitting the cohort"):
        first, second = (module(torch.from_numpy(part)) for part in _pairs(faces.people, config, generator))
        chosen = generator.choice(len(faces.unlabelled), _unlabelled_per_step(faces, config), replace=False)
        loss = _loss(first, second, module(torch.from_numpy(faces.unlabelled[chosen])), config)
        optimiser.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        schedule.step()
    return module.cohort()


def require_enough(faces: Faces, config: CohortConfig) -> None:
    """Raises ConfigError if there are too few faces, or the cohort would be too large."""
    if len(faces.people) < 2:
        raise ConfigError("a cohort needs at least two training people with two pictures each: add people")
    if len(faces.unlabelled) < 2 * config.centres:
        raise ConfigError(
            f"{len(faces.unlabelled)} unlabelled faces are too few for {config.centres} centres: add pictures of many "
            "different people, or lower `centres` to half of their number"
        )
    size = 2 * 2 * config.centres * faces.unlabelled.shape[1] + HEADER_BYTES
    if size > MAX_BYTES:
        raise ConfigError(f"{config.centres} centres take {size} bytes; a cohort has at most {MAX_BYTES}")


def _centres(unlabelled: Floats, config: CohortConfig) -> Floats:
    clusters = MiniBatchKMeans(config.centres, random_state=config.seed, n_init=1, batch_size=8192).fit(unlabelled)
    centres = np.asarray(clusters.cluster_centers_, np.float32)
    return centres / np.linalg.norm(centres, axis=1, keepdims=True)


def _pairs(people: Sequence[Floats], config: CohortConfig, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Returns two pictures of each of some people."""
    chosen = generator.choice(len(people), min(config.people_per_step, len(people)), replace=False)
    rows = [people[person][generator.choice(len(people[person]), 2, replace=False)] for person in chosen]
    pairs = np.stack(rows)
    return pairs[:, 0], pairs[:, 1]


def _unlabelled_per_step(faces: Faces, config: CohortConfig) -> int:
    return min(config.unlabelled_per_step, len(faces.unlabelled))


def _loss(first: Tensor, second: Tensor, unlabelled: Tensor, config: CohortConfig) -> Tensor:
    scores = first @ second.T / config.temperature
    separation = F.cross_entropy(scores, torch.arange(len(first)))
    among_people, among_unlabelled = _log_density(scores), _log_density(unlabelled @ unlabelled.T / config.temperature)
    gap = among_unlabelled.mean() - among_people.mean() - math.log(config.density_ratio)
    return config.separation * separation + config.evenness * among_unlabelled.var() + config.level * gap.square()


def _log_density(scores: Tensor) -> Tensor:
    """Returns for each row of (n, n) scaled scores the logarithm of the mean of exp(score) over the other faces."""
    itself = torch.eye(len(scores), dtype=torch.bool)
    return torch.logsumexp(scores.masked_fill(itself, -torch.inf), dim=1) - math.log(len(scores) - 1)
