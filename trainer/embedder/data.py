"""Batches of canvases with labels and teacher embeddings, split by person."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import lightning
import numpy as np
import numpy.typing as npt
import torch
from pytorch_metric_learning.samplers import MPerClassSampler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler, Sampler

from trainer.configuration import ConfigError
from trainer.embedder.canvases import NAMELESS, CanvasSet
from trainer.embedder.config import SplitConfig, StageConfig
from trainer.embedder.split import Part, part_of


@dataclass
class Batch:
    """canvases (N, 160, 160, 3) uint8, labels (N,), teacher (N, D) or None, landmarks (N, 6, 3) or None."""

    canvases: Tensor
    labels: Tensor
    teacher: Tensor | None
    landmarks: Tensor | None = None


FEWEST_IMPOSTOR_PAIRS = 100


class FaceData(lightning.LightningDataModule):
    """The canvases of one run. A person without a name has the label -1 and is never in a P x K batch."""

    def __init__(
        self,
        canvases: CanvasSet,
        teacher: npt.NDArray[np.float32] | None,
        split: SplitConfig,
        stage: StageConfig,
        seed: int = 0,
        min_images_per_class: int = 1,
        landmarks: npt.NDArray[np.float32] | None = None,
    ) -> None:
        super().__init__()
        self._landmarks = landmarks
        self.canvases, self._teacher, self._stage, self._seed = canvases, teacher, stage, seed
        counts = Counter(canvases.identities)
        few = {name for name, count in counts.items() if name != NAMELESS and count < min_images_per_class}
        parts = np.array([Part.LEFT_OUT if name in few else part_of(name, split) for name in canvases.identities])
        names = sorted(set(counts) - few - {NAMELESS})
        # Training people come first: only they need a centre where a loss learns one for each.
        names.sort(key=lambda name: part_of(name, split) is not Part.TRAIN)
        numbers = {name: number for number, name in enumerate(names)}
        self.people = sum(part_of(name, split) is Part.TRAIN for name in names)
        self.labels = np.array([numbers.get(name, -1) for name in canvases.identities])
        self.training_rows = self._usable(np.flatnonzero(parts == Part.TRAIN))
        self.validation_rows = np.flatnonzero(parts == Part.VALIDATION)

    def train_dataloader(self) -> DataLoader[int]:
        stage, rows = self._stage, self.training_rows
        return DataLoader(
            _Rows(rows),
            batch_sampler=_SharedBatches(
                self._order,
                lambda: epoch_seed(self._seed, self._epoch),
                stage.batch_size,
                len(rows) // stage.batch_size,
                *self._place,
            ),
            collate_fn=self._collate,
        )

    def _order(self) -> Sampler[int]:
        stage, rows = self._stage, self.training_rows
        if not stage.images_per_identity:
            return RandomSampler(rows)
        # Its last batch is as full as the others.
        return MPerClassSampler(self.labels[rows], stage.images_per_identity, stage.batch_size, len(rows))

    @property
    def steps_per_epoch(self) -> int:
        return len(self.training_rows) // self._stage.batch_size

    @property
    def can_validate(self) -> bool:
        """Whether the held-out people make pairs of both kinds that say something about a false match rate of 10 %."""
        counts = np.bincount(self.labels[self.validation_rows]) if len(self.validation_rows) else np.zeros(1, int)
        total = int(counts.sum())
        return bool((counts > 1).any()) and (total * total - int((counts**2).sum())) / 2 >= FEWEST_IMPOSTOR_PAIRS

    def require_enough(self) -> None:
        """Raises ConfigError where not one batch can be made."""
        stage, rows = self._stage, self.training_rows
        if len(rows) < stage.batch_size:
            raise ConfigError(
                f"stage {stage.name!r}: {len(rows)} usable training pictures make no batch of {stage.batch_size}: "
                "lower batch_size, or add pictures"
            )
        people = len(set(self.labels[rows]))
        if stage.images_per_identity and people * stage.images_per_identity < stage.batch_size:
            raise ConfigError(
                f"stage {stage.name!r}: {people} training people with two pictures or more, "
                f"{stage.images_per_identity} of each, make no batch of {stage.batch_size}: lower batch_size to "
                f"{people * stage.images_per_identity} or less"
            )

    @property
    def _epoch(self) -> int:
        return 0 if self.trainer is None else self.trainer.current_epoch

    @property
    def _place(self) -> tuple[int, int]:
        """Number of this process, and of processes."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def val_dataloader(self) -> DataLoader[int]:
        return DataLoader(_Rows(self.validation_rows), batch_size=256, collate_fn=self._collate)

    def _usable(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        if not self._stage.images_per_identity:
            return rows
        labels = self.labels[rows]
        if not (labels >= 0).any():
            return rows[:0]
        counts = np.bincount(labels[labels >= 0], minlength=labels.max() + 1)
        return rows[(labels >= 0) & (counts[labels] >= 2)]

    def _collate(self, rows: list[int]) -> Batch:
        teacher = None if self._teacher is None else torch.from_numpy(self._teacher[rows])
        order = np.argsort(rows)  # a memory map is read fastest in order
        pictures = np.empty((len(rows), *self.canvases.pictures.shape[1:]), np.uint8)
        for index in order:
            pictures[index] = self.canvases.pictures[rows[index]]
        landmarks = None if self._landmarks is None else torch.from_numpy(self._landmarks[rows])
        return Batch(torch.from_numpy(pictures), torch.from_numpy(self.labels[rows]), teacher, landmarks)


def epoch_seed(seed: int, epoch: int) -> int:
    """A run that is resumed draws in each epoch what an uninterrupted one would have drawn."""
    return (seed * 10_007 + epoch) % 2**32


class _SharedBatches(Sampler[list[int]]):
    """A new order for each epoch, cut into batches, of which every process takes its part.

    All processes draw the same order, so that together they see the batches that one process alone would. The P x K
    sampler remembers what it drew before, and would not after a resume: each epoch gets a new one.
    """

    def __init__(
        self,
        order: Callable[[], Sampler[int]],
        seed: Callable[[], int],
        batch_size: int,
        batches: int,
        process: int,
        processes: int,
    ) -> None:
        self._order, self._seed, self._batch_size, self._batches = order, seed, batch_size, batches
        self._process, self._processes = process, processes

    def __len__(self) -> int:
        return self._batches

    def __iter__(self) -> Iterator[list[int]]:
        seed = self._seed()
        np.random.seed(seed)
        with torch.random.fork_rng(devices=[]):  # what is drawn for the augmentation is each process's own
            torch.manual_seed(seed)
            rows = list(self._order())
        for start in range(0, self._batches * self._batch_size, self._batch_size):
            yield rows[start : start + self._batch_size][self._process :: self._processes]


class _Rows(Dataset[int]):
    def __init__(self, rows: npt.NDArray[np.int64]) -> None:
        self._rows = rows

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> int:
        return int(self._rows[index])
