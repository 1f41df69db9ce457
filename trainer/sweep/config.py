"""Settings of a sweep over encoders."""

from typing import Any, Literal, Self

from pydantic import Field, model_validator

from service.inference.graph import RuntimeOptions
from trainer.configuration import Configuration
from trainer.embedder.config import EmbedderConfig


class RunConfig(Configuration):
    """One encoder of the sweep.

    Attributes:
        backbone: Name of the backbone, as in a training configuration.
        embedding_dim: Length of the embedding vector.
    """

    backbone: str
    embedding_dim: int = Field(ge=8)

    @property
    def name(self) -> str:
        """Name of the run's folder and of its bundle."""
        return f"{self.backbone.replace(':', '-').replace('/', '-').lower()}-{self.embedding_dim}"


class SweepConfig(Configuration):
    """Each of `backbones` with each of `embedding_dims`, or the list `runs`.

    Attributes:
        backbones: Names of backbones; each is trained with each of `embedding_dims`.
        embedding_dims: Lengths of the embedding vector, each at least 8.
        runs: The encoders one by one, instead of `backbones` and `embedding_dims`.
        gallery: Part of the split whose pictures are searched and measured; `val` is short for `validation`. The people
            of `calibration` neither train nor select the checkpoint. `all` and `train` contain training people.
        top_k: Number of search results per query.
        queries: Number of query pictures.
        threads: Threads of the latency measurement.
        inference_batch_size: Pictures in one call of the runtime when the gallery is embedded.
        evaluation_device: Processor that embeds the gallery and measures the latency.
        train: The training configuration of every run, without backbone and embedding_dim.
    """

    backbones: tuple[str, ...] = ()
    embedding_dims: tuple[int, ...] = ()
    runs: tuple[RunConfig, ...] = ()
    gallery: Literal["train", "val", "validation", "calibration", "all"] = "calibration"
    top_k: int = Field(5, ge=1, le=20)
    queries: int = Field(3, ge=1)
    threads: int = Field(1, ge=1)
    inference_batch_size: int = Field(32, ge=1)
    evaluation_device: Literal["cpu", "cuda"] = "cpu"
    train: dict[str, Any]

    @model_validator(mode="after")
    def _is_valid(self) -> Self:
        if bool(self.runs) == bool(self.backbones and self.embedding_dims):
            raise ValueError("set either backbones and embedding_dims, or runs")
        for key in ("backbone", "embedding_dim"):
            if key in self.train:
                raise ValueError(f"train.{key} is varied by the sweep; remove it from train")
        self.configurations()  # so that an invalid key fails before the first hour of training
        return self

    @property
    def runtime(self) -> RuntimeOptions:
        return RuntimeOptions(threads=self.threads, device=self.evaluation_device)

    def configurations(self) -> dict[RunConfig, EmbedderConfig]:
        """Returns every run with its training configuration."""
        pairs = ((backbone, dim) for backbone in self.backbones for dim in self.embedding_dims)
        runs = self.runs or tuple(RunConfig(backbone=backbone, embedding_dim=dim) for backbone, dim in pairs)
        return {run: EmbedderConfig.model_validate({**self.train, **run.model_dump()}) for run in runs}
