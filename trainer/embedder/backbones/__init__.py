"""Encoders from a picture to an embedding: two of the trainer, and those of torchvision, timm and facenet-pytorch."""

from trainer.embedder.backbones.building import build_encoder
from trainer.embedder.backbones.learning import channels_last, freeze_batch_norms, freeze_but

__all__ = ["build_encoder", "channels_last", "freeze_batch_norms", "freeze_but"]
