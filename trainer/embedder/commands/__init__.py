"""The commands `identity-trainer prepare`, `slim`, `train`, `export`, `cohort`, `calibrate` and `evaluate`."""

from trainer.embedder.commands.calibrate import calibrate
from trainer.embedder.commands.cohort import cohort
from trainer.embedder.commands.evaluate import evaluate
from trainer.embedder.commands.export import export
from trainer.embedder.commands.prepare import prepare
from trainer.embedder.commands.slim import slim
from trainer.embedder.commands.train import train

__all__ = ["calibrate", "cohort", "evaluate", "export", "prepare", "slim", "train"]
