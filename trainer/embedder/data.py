"""Loads batches of aligned crops with labels and teacher embeddings, split by identity."""

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import lightning
import numpy as np
import numpy.typing as npt
import torch
from pytorch_metric_learning.samplers import MPerClassSampler
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, RandomSampler, Sampler

from trainer.configuration import ConfigError
from trainer.embedder.aligned_crops import UNLABELLED, AlignedCrops
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.split import Part, picture_parts

MIN_IMPOSTOR_PAIRS = 100
"""Fewer pairs of validation pictures cannot measure a false match rate of 10 %."""
VALIDATION_BATCH = 256


@dataclass
class Batch:
    """A batch of N pictures.

    Attributes:
        crops: (N, 160, 160, 3) uint8.
        labels: (N,) numbers of people; -1 for unlabelled pictures.
        teacher: (N, T) embeddings of the teacher, or None.
        landmarks: (N, 6, 3) in pixels of the crops, or None.
    """

    crops: Tensor
    labels: Tensor
    teacher: Tensor | None
    landmarks: Tensor | None = None


class FaceData(lightning.LightningDataModule):
    """The aligned crops of one stage. Unlabelled pictures have the label -1 and are never in a P x K batch.

    Args:
        filtered: The crops with the filters of the configuration, for training; validation filters the aligned picture.
    """

    def __init__(
        self,
        crops: AlignedCrops,
        teacher: npt.NDArray[np.float32] | None,
        config: EmbedderConfig,
        stage_index: int = 0,
        landmarks: npt.NDArray[np.float32] | None = None,
        filtered: AlignedCrops | None = None,
    ) -> None:
        super().__init__()
        self._training_pictures = (filtered or crops).pictures
        split, stage = config.split, config.stages[stage_index]
        self._landmarks, self._split, self._config = landmarks, split, config
        self.crops, self._teacher, self._stage, self._seed = crops, teacher, stage, config.seed + stage_index
        counts = Counter(crops.identities)
        excluded = {
            name for name, count in counts.items() if name != UNLABELLED and count < config.min_images_per_class
        }
        parts = np.array(picture_parts(crops, split))
        parts[[name in excluded for name in crops.identities]] = Part.LEFT_OUT
        names = sorted(set(counts) - excluded - {UNLABELLED})
        # Training people have the lowest numbers: losses learn a centre for each of them and for no other person.
        training = {name for name, part in zip(crops.identities, parts, strict=True) if part == Part.TRAIN}
        names.sort(key=lambda name: name not in training)
        numbers = {name: number for number, name in enumerate(names)}
        self.names = names
        self.people = sum(name in training for name in names)
        self.labels = np.array([numbers.get(name, -1) for name in crops.identities])
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
                *self._process,
            ),
            collate_fn=partial(self._collate, self._training_pictures),
            **self._loading,
        )

    @property
    def _loading(self) -> dict[str, Any]:
        config = self._config
        return {
            "num_workers": config.num_workers,
            "pin_memory": config.pin_memory,
            "persistent_workers": config.persistent_workers,
        }

    def _order(self) -> Sampler[int]:
        stage, rows = self._stage, self.training_rows
        if not stage.images_per_identity:
            return RandomSampler(rows)
        # MPerClassSampler fills its last batch, so that it has P x K pictures as well.
        return MPerClassSampler(self.labels[rows], stage.images_per_identity, stage.batch_size, len(rows))

    @property
    def steps_per_epoch(self) -> int:
        return len(self.training_rows) // self._stage.batch_size

    @property
    def can_validate(self) -> bool:
        """True if the validation people form genuine pairs and at least 100 impostor pairs.

        A split by picture needs no pairs: it measures a classifier.
        """
        if self._split.by == "picture":
            return len(self.validation_rows) > 0
        return self.has_pairs

    @property
    def has_pairs(self) -> bool:
        """True if a person has two validation pictures, and there are enough impostor pairs to measure."""
        counts = np.bincount(self.labels[self.validation_rows]) if len(self.validation_rows) else np.zeros(1, int)
        total = int(counts.sum())
        return bool((counts > 1).any()) and (total * total - int((counts**2).sum())) / 2 >= MIN_IMPOSTOR_PAIRS

    def require_enough(self) -> None:
        """Checks that the training pictures fill a batch.

        Raises:
            ConfigError: They do not.
        """
        stage, rows = self._stage, self.training_rows
        if len(rows) < stage.batch_size:
            raise ConfigError(
                f"stage {stage.name!r}: {len(rows)} usable training pictures do not fill a batch of "
                f"{stage.batch_size}; lower batch_size, or add pictures"
            )
        people = len(set(self.labels[rows]))
        if stage.images_per_identity and people * stage.images_per_identity < stage.batch_size:
            raise ConfigError(
                f"stage {stage.name!r}: {people} training people with at least two pictures, "
                f"{stage.images_per_identity} of each, do not fill a batch of {stage.batch_size}; lower batch_size to "
                f"{people * stage.images_per_identity} or less"
            )

    @property
    def _epoch(self) -> int:
        return 0 if self.trainer is None else self.trainer.current_epoch

    @property
    def _process(self) -> tuple[int, int]:
        """The number of this process, from 0, and the number of processes."""
        return (0, 1) if self.trainer is None else (self.trainer.global_rank, self.trainer.world_size)

    def val_dataloader(self) -> DataLoader[int]:
        return DataLoader(
            _Rows(self.validation_rows),
            batch_size=VALIDATION_BATCH,
            collate_fn=partial(self._collate, self.crops.pictures),
            **self._loading,
        )

    def _usable(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Returns all rows; for P x K batches only those of people with at least two pictures."""
        if not self._stage.images_per_identity:
            return rows
        labels = self.labels[rows]
        if not (labels >= 0).any():
            return rows[:0]
        counts = np.bincount(labels[labels >= 0], minlength=labels.max() + 1)
        return rows[(labels >= 0) & (counts[labels] >= 2)]

    def _collate(self, source: npt.NDArray[np.uint8], rows: list[int]) -> Batch:
        teacher = None if self._teacher is None else torch.from_numpy(self._teacher[rows])
        order = np.argsort(rows)  # a memory map is fastest when it is read in order
        pictures = np.empty((len(rows), *source.shape[1:]), np.uint8)
        for index in order:
            pictures[index] = source[rows[index]]
        landmarks = None if self._landmarks is None else torch.from_numpy(self._landmarks[rows])
        return Batch(torch.from_numpy(pictures), torch.from_numpy(self.labels[rows]), teacher, landmarks)


def epoch_seed(seed: int, epoch: int) -> int:
    """Returns the seed of an epoch, so that a resumed run draws the same random numbers as an uninterrupted one."""
    return (seed * 10_007 + epoch) % 2**32


class _SharedBatches(Sampler[list[int]]):
    """Shuffles the rows in each epoch and yields this process's part of each batch.

    All processes draw the same order, so together they process the batches that a single process would. Each epoch uses
    a new sampler, since `MPerClassSampler` keeps a state that a resumed run would not restore.
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
        with torch.random.fork_rng(devices=[]):  # the augmentation has its own random numbers in each process
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
