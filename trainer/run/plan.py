"""Plans a run: who trains, who only measures, the stage of training, and the time that the run takes."""

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

import torch

from trainer.choices import Training
from trainer.configuration import ConfigError
from trainer.datasets.photos import LabelledPhoto, SourcePart
from trainer.embedder.calibration import MAX_PER_IDENTITY, MIN_PEOPLE
from trainer.embedder.config import EmbedderConfig
from trainer.embedder.data import MIN_IMPOSTOR_PAIRS
from trainer.embedder.input_config import AugmentationConfig
from trainer.embedder.loss_config import LossesConfig, LossTerm, TripletTerm
from trainer.embedder.split import Part, fitted_split, part_of
from trainer.embedder.split_config import SplitConfig
from trainer.embedder.stage_config import StageConfig

MIN_TRAINED_PEOPLE = 20
"""Training with fewer people is not attempted: too few remain after the held-out people are removed."""
VALIDATION_SHARE = 0.1
MIN_SELECTING_PEOPLE = 30
MEASURED_SHARE, MEASURED_SHARE_OF_FEW, FEW_PEOPLE = 0.3, 0.4, 100
"""With few people a larger share measures, since the number of impostor pairs limits the calibration."""
LARGEST_BATCH = 128
SHOWN_PICTURES = 5_000
"""Number of pictures that training shows at least, in whole epochs, within the limits below."""
EPOCHS = (3, 10)
PREPARED_PER_S, TRAINED_PER_S, EMBEDDED_PER_S, STARTUP_S = 13.0, 17.0, 90.0, 20.0
"""Pictures per second and core, measured on two cores with photos of 250 to 1,000 pixels."""
TRAINED_PER_S_GPU = 1_000.0


@dataclass(frozen=True)
class Plan:
    """The plan of a run.

    Attributes:
        counts: number of photos of each person.
        config: the training configuration; None: the run calibrates the shipped model and trains nothing.
        reason: why the run does not train; "" if it does.
    """

    counts: Mapping[str, int]
    config: EmbedderConfig | None
    reason: str = ""

    @property
    def photos(self) -> int:
        return sum(self.counts.values())

    def people_of(self, part: Part) -> list[str]:
        """Returns the people of one part of the split; without training everybody is measured."""
        if self.config is None:
            return sorted(self.counts) if part is Part.CALIBRATION else []
        return [name for name in sorted(self.counts) if part_of(name, self.config.split) is part]

    def photos_of(self, part: Part) -> int:
        return sum(self.counts[name] for name in self.people_of(part))

    @property
    def purposes(self) -> dict[Part, str]:
        """What the people of each part do, in the order of the plan."""
        selects = self.config is not None and self.config.keep_best > 0
        return {
            Part.TRAIN: "train the model",
            Part.VALIDATION: "select the best epoch" if selects else "show the course of the training",
            Part.CALIBRATION: "measure: calibration" if self.config is None else "measure: comparison and calibration",
        }

    def seconds(self, device: str = "auto") -> float:
        """Estimates the duration of the run."""
        cores = os.cpu_count() or 1
        prepared = self.photos / (PREPARED_PER_S * cores)
        embedded = 3 * self.photos / (EMBEDDED_PER_S * cores)
        return STARTUP_S + prepared + embedded + self._training_seconds(device, cores)

    def _training_seconds(self, device: str, cores: int) -> float:
        if self.config is None:
            return 0.0
        has_gpu = device != "cpu" and (torch.cuda.is_available() or device in {"cuda", "mps"})
        per_second = TRAINED_PER_S_GPU if has_gpu else TRAINED_PER_S * cores
        return self.photos_of(Part.TRAIN) * sum(stage.epochs for stage in self.config.stages) / per_second


def divided(photos: Sequence[LabelledPhoto]) -> frozenset[str]:
    """Returns the people whom the data set itself holds out.

    If the same people are in both parts, the data set divides photos and not people, and holds out nobody.
    """
    trained = {photo.identity for photo in photos if photo.part is SourcePart.TRAIN}
    held_out = {photo.identity for photo in photos if photo.part is SourcePart.HELD_OUT}
    return frozenset() if trained & held_out else frozenset(held_out)


def plan(counts: Mapping[str, int], training: Training, held_out: Collection[str] = ()) -> Plan:
    """Plans a run for people with these numbers of photos.

    Args:
        held_out: people whom the data set itself holds out; empty: the plan chooses them.

    Raises:
        ConfigError: There are too few people or photos even to measure, or to train if training is demanded.
    """
    several = sorted(name for name, count in counts.items() if count > 1)
    if not _measurable(counts):
        raise ConfigError(
            f"{len(counts)} people, {len(several)} of them with at least two photos, are too few: thresholds need at "
            f"least {MIN_PEOPLE} people, some of them with several photos, and {MIN_IMPOSTOR_PAIRS} pairs of "
            "photos of different people"
        )
    if training is Training.NEVER:
        return Plan(counts, None, "--training never")
    split = _split(counts, several, held_out)
    trained = {name: counts[name] for name in several if part_of(name, split) is Part.TRAIN}
    if len(trained) < MIN_TRAINED_PEOPLE:
        reason = (
            f"{len(trained)} people with at least two photos would remain for training besides the held-out people, "
            f"and training needs {MIN_TRAINED_PEOPLE}; so few people do not improve a model that was trained on "
            "thousands"
        )
        return _without_training(counts, training, reason)
    measured = {name: count for name, count in counts.items() if part_of(name, split) is Part.CALIBRATION}
    if not _measurable(measured):
        reason = f"the {len(measured)} held-out people have too few photos to measure, or are fewer than ten"
        return _without_training(counts, training, reason)
    return Plan(counts, _config(split, several, trained))


def _without_training(counts: Mapping[str, int], training: Training, reason: str) -> Plan:
    if training is Training.ALWAYS:
        raise ConfigError(f"--training always: {reason}. Add people")
    return Plan(counts, None, reason)


def _measurable(counts: Mapping[str, int]) -> bool:
    """Returns True if a calibration on these people is possible."""
    used = [min(count, MAX_PER_IDENTITY) for count in counts.values()]
    pairs = (sum(used) ** 2 - sum(count**2 for count in used)) // 2
    return len(used) >= MIN_PEOPLE and max(used) > 1 and pairs >= MIN_IMPOSTOR_PAIRS


def _split(counts: Mapping[str, int], several: list[str], held_out: Collection[str]) -> SplitConfig:
    if held_out:
        remaining = [name for name in several if name not in held_out]
        split = fitted_split(remaining, round(VALIDATION_SHARE * len(remaining)), 0)
        return split.model_copy(update={"held_out": tuple(sorted(held_out))})
    share = MEASURED_SHARE_OF_FEW if len(several) < FEW_PEOPLE else MEASURED_SHARE
    measured = max(MIN_PEOPLE, round(share * len(several)))
    return fitted_split(several, round(VALIDATION_SHARE * len(several)), min(measured, len(several)))


def _config(split: SplitConfig, people: Sequence[str], trained: Mapping[str, int]) -> EmbedderConfig:
    # Few validation people show the course of the training, but select an epoch by chance.
    keep = 1 if sum(part_of(name, split) is Part.VALIDATION for name in people) >= MIN_SELECTING_PEOPLE else 0
    return EmbedderConfig(
        backbone="mobilefacenet", compile=False, split=split, keep_best=keep, stages=[_stage(trained)]
    )


def _stage(trained: Mapping[str, int]) -> StageConfig:
    """Returns a stage of batch-hard triplets whose P x K batches these people fill."""
    typical = sorted(trained.values())[len(trained) // 2]
    each = 4 if typical >= 4 else 2
    photos = sum(trained.values())
    people = min(LARGEST_BATCH // each, len(trained), photos // each)
    epochs = min(max(-(-SHOWN_PICTURES // photos), EPOCHS[0]), EPOCHS[1])
    return StageConfig(
        name="batch-hard",
        epochs=epochs,
        batch_size=people * each,
        identities_per_batch=people,
        images_per_identity=each,
        learning_rate=1e-4,
        freeze_batch_norm=True,
        augmentation=AugmentationConfig(rotation_degrees=6, shift=0.04, scale=0.08),
        losses=LossesConfig(
            triplet=TripletTerm(weight=0.5, margin=0.2),
            embedding=LossTerm(weight=1.0),
            similarity=LossTerm(weight=10.0),
        ),
    )
