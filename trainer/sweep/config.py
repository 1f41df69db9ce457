"""Settings of a benchmark of many encoders, read from a YAML file."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from trainer.configuration import Configuration
from trainer.embedder.config import EmbedderConfig


class RunConfig(Configuration):
    """One encoder of the benchmark."""

    backbone: str
    embedding_dim: int = Field(ge=8)

    @property
    def name(self) -> str:
        """Of its folder and its bundle."""
        return f"{self.backbone.replace(':', '-').replace('/', '-').lower()}-{self.embedding_dim}"


class SweepConfig(Configuration):
    """Every one of `backbones` with every one of `embedding_dims`, or exactly `runs`.

    Attributes:
        train: the configuration of every run, without backbone and embedding_dim.
        gallery: whose pictures are searched and measured. `calibration`: people who neither train nor choose.
        top_k: how many answers a query's row shows.
        queries: how many query pictures there are grids for.
        threads: of the latency measurement.
    """

    backbones: tuple[str, ...] = ()
    embedding_dims: tuple[int, ...] = ()
    runs: tuple[RunConfig, ...] = ()
    gallery: Literal["train", "validation", "calibration"] = "calibration"
    top_k: int = Field(5, ge=1, le=20)
    queries: int = Field(3, ge=1)
    threads: int = Field(1, ge=1)
    train: dict[str, Any]

    @model_validator(mode="after")
    def _has_one_list(self) -> Self:
        if bool(self.runs) == bool(self.backbones and self.embedding_dims):
            raise ValueError("name backbones and embedding_dims, or runs")
        for key in ("backbone", "embedding_dim"):
            if key in self.train:
                raise ValueError(f"train.{key} is what the benchmark goes through: leave it out")
        self.configurations()  # a wrong key is told before the first hour of training
        return self

    def configurations(self) -> dict[RunConfig, EmbedderConfig]:
        """Every run with the configuration that trains it."""
        pairs = ((backbone, dim) for backbone in self.backbones for dim in self.embedding_dims)
        runs = self.runs or tuple(RunConfig(backbone=backbone, embedding_dim=dim) for backbone, dim in pairs)
        return {run: EmbedderConfig.model_validate({**self.train, **run.model_dump()}) for run in runs}
