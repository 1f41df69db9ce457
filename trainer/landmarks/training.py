"""Trains the landmark refiner."""

import pickle
from pathlib import Path
from typing import Any

import lightning
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from lightning.pytorch.loggers import CSVLogger
from torch.nn import functional
from torch.utils.data import DataLoader

from trainer.configuration import ConfigError
from trainer.landmarks.config import LandmarkConfig
from trainer.landmarks.faces import Faces, Kind
from trainer.landmarks.model import EYES, LandmarkRefiner, laplace_loss
from trainer.landmarks.restoration import restore
from trainer.landmarks.samples import Sample, Samples

STATISTICS_CROPS = 512
"""Number of training crops from which the statistics of a restored refiner are estimated."""
Batch = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


class RefinerTraining(lightning.LightningModule):
    """Trains with AdamW and a one-cycle schedule (Smith and Topin, "Super-convergence", 2018).

    Validation logs `error`, the median distance of landmarks divided by the distance between the eyes, and `ranked`,
    the area under the ROC curve of face verification: the probability that a face gets a higher logit than another
    crop.
    """

    def __init__(self, config: LandmarkConfig) -> None:
        super().__init__()
        self.config = config
        self.model = LandmarkRefiner(config.input_size, config.width)
        self._errors: list[torch.Tensor] = []
        self._faces: list[torch.Tensor] = []
        self._others: list[torch.Tensor] = []

    def training_step(self, batch: Batch, _: int) -> torch.Tensor:
        crops, points, kinds = batch
        outputs, logits = self.model(crops.float())
        landmarked = kinds == Kind.LANDMARKED
        face = functional.binary_cross_entropy_with_logits(logits, (kinds != Kind.OTHER).float())
        loss = self.config.face_weight * face
        if landmarked.any():
            loss = loss + laplace_loss(outputs[landmarked], points[landmarked])
        self.log_dict({"loss": loss, "face_loss": face}, prog_bar=True)
        return loss

    def validation_step(self, batch: Batch, _: int) -> None:
        crops, points, kinds = batch
        outputs, logits = self.model(crops.float())
        landmarked = kinds == Kind.LANDMARKED
        self._errors.append((outputs[landmarked, :, :2] - points[landmarked]).norm(dim=2) / EYES)
        self._faces.append(logits[kinds != Kind.OTHER])
        self._others.append(logits[kinds == Kind.OTHER])

    def on_validation_epoch_end(self) -> None:
        if self._errors:
            self.log("error", torch.cat(self._errors).median(), prog_bar=True)
            faces, others = torch.cat(self._faces), torch.cat(self._others)
            if len(others):
                self.log("ranked", (faces[:, None] > others[None]).float().mean(), prog_bar=True)
        for values in (self._errors, self._faces, self._others):
            values.clear()

    def configure_optimizers(self) -> Any:
        rate, decay = self.config.learning_rate, self.config.weight_decay
        optimizer = torch.optim.AdamW(self.parameters(), rate, weight_decay=decay)
        steps = int(self.trainer.estimated_stepping_batches)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def train(
    config: LandmarkConfig,
    faces: Faces,
    validation: Faces,
    output: Path,
    initial: Path | None = None,
    resume: bool = False,
    bundle: Path | None = None,
) -> Path:
    """Trains a refiner and returns the checkpoint with the smallest landmark error on the validation faces.

    Args:
        output: run folder for `best.ckpt`, `last.ckpt` and `metrics.csv`.
        initial: checkpoint of an earlier run with the initial weights.
        bundle: detector bundle whose refiner has the initial weights.
        resume: continues from `last.ckpt` in the run folder.

    Raises:
        ConfigError: `initial` is not a checkpoint of a refiner.
        FileNotFoundError: `resume` is set and the run folder has no checkpoint.
        ValueError: there are fewer faces than a batch, or no validation faces.
    """
    if len(faces) < config.batch_size or not len(validation):
        raise ValueError(
            f"{len(faces)} training faces and {len(validation)} validation faces are too few; provide at least "
            f"{config.batch_size} (batch_size) training faces and one validation face"
        )
    last = output / "last.ckpt"
    if resume and not last.exists():
        raise FileNotFoundError(f"cannot resume: {last} does not exist; start without --resume")
    lightning.seed_everything(config.seed, verbose=False)
    best = ModelCheckpoint(output, "best", monitor="error", save_last=True, enable_version_counter=False)
    trainer = lightning.Trainer(
        max_epochs=config.epochs,
        default_root_dir=output,
        callbacks=[best],
        logger=CSVLogger(output, name="", version=""),
        enable_model_summary=False,
        precision="bf16-mixed",
    )
    module = RefinerTraining(config)
    if initial is not None:
        module.load_state_dict(load_weights(initial))
    validation_loader = DataLoader(Samples(validation, config, augmented=False), config.batch_size)
    if bundle is not None and not resume:
        samples = Samples(faces, config, augmented=True)
        chosen = torch.randperm(len(samples))[:STATISTICS_CROPS].tolist()
        module.model = restore(bundle, config, torch.stack([samples[index][0] for index in chosen]))
    loader = _training_loader(faces, config)
    trainer.fit(module, loader, validation_loader, ckpt_path=last if resume else None, weights_only=True)
    return Path(best.best_model_path)


def _training_loader(faces: Faces, config: LandmarkConfig) -> DataLoader[Sample]:
    return DataLoader(
        Samples(faces, config, augmented=True),
        config.batch_size,
        shuffle=True,
        drop_last=True,
        num_workers=config.workers,
        persistent_workers=config.workers > 0,
    )


def load(checkpoint: Path, config: LandmarkConfig) -> LandmarkRefiner:
    """Returns the trained refiner in evaluation mode.

    Raises:
        ConfigError: the file is not a checkpoint of a refiner.
    """
    module = RefinerTraining(config)
    module.load_state_dict(load_weights(checkpoint))
    return module.model.eval()


def load_weights(checkpoint: Path) -> dict[str, torch.Tensor]:
    """Returns the weights of a checkpoint.

    Raises:
        ConfigError: the file is not a checkpoint of a refiner.
    """
    try:
        weights: dict[str, torch.Tensor] = torch.load(checkpoint, map_location="cpu", weights_only=True)["state_dict"]
    except (OSError, KeyError, TypeError, RuntimeError, pickle.UnpicklingError) as error:
        raise ConfigError(f"{checkpoint} is not a checkpoint of `identity-trainer landmarks train`: {error}") from None
    return weights
