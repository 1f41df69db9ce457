"""Which losses a stage minimises, as YAML names them: `losses: {triplet: {weight: 0.5, margin: soft}, softmax: 1}`."""

import math
from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from trainer.configuration import Configuration


class WeightSchedule(Configuration):
    """A weight that goes from `start` to `end` over the stage."""

    start: float = Field(ge=0)
    end: float = Field(ge=0)
    shape: Literal["linear", "cosine"] = "linear"


class LossTerm(Configuration):
    weight: Annotated[float, Field(gt=0)] | WeightSchedule = 1.0

    def weight_at(self, progress: float) -> float:
        """The weight when `progress` (0 to 1) of the stage is done."""
        if not isinstance(self.weight, WeightSchedule):
            return self.weight
        schedule = self.weight
        part = progress if schedule.shape == "linear" else (1 - math.cos(math.pi * progress)) / 2
        return schedule.start + (schedule.end - schedule.start) * part


class TripletTerm(LossTerm):
    """`margin: soft`: log(1 + exp(difference)) in place of a hinge at a margin (Hermans et al. 2017)."""

    mining: Literal["batch-hard", "semi-hard"] = "batch-hard"
    margin: Annotated[float, Field(gt=0)] | Literal["soft"] = 0.2


class ArcFaceTerm(LossTerm):
    margin_degrees: float = Field(28.6, gt=0, lt=90)
    scale: float = Field(64.0, gt=0)


class CosFaceTerm(LossTerm):
    margin: float = Field(0.35, gt=0, lt=1)
    scale: float = Field(64.0, gt=0)


class AdaFaceTerm(LossTerm):
    """`concentration`: how much of the batch's spread of embedding lengths makes the whole difference in margin."""

    margin: float = Field(0.4, gt=0, lt=1)
    concentration: float = Field(0.333, gt=0)
    scale: float = Field(64.0, gt=0)


class SoftmaxTerm(LossTerm):
    label_smoothing: float = Field(0.0, ge=0, lt=1)


def _weight_alone(value: object) -> object:
    """`triplet: 0.5` is short for `triplet: {weight: 0.5}`."""
    return {"weight": value} if isinstance(value, int | float) else value


Short = BeforeValidator(_weight_alone)


class LossesConfig(Configuration):
    """The losses of one stage; what is minimised is their weighted sum.

    Attributes:
        embedding: 1 - cosine to the teacher's embedding of the same picture.
        similarity: squared error of the batch's pairwise cosines to the teacher's (Tung and Mori 2019).
        triplet: batch-hard or semi-hard triplets (Hermans et al. 2017; Schroff et al. 2015).
        arcface, cosface, adaface: margin softmaxes over the training people (Deng et al. 2019; Wang et al. 2018;
            Kim et al. 2022).
        softmax: a plain classifier of the training people.
    """

    embedding: Annotated[LossTerm | None, Short] = None
    similarity: Annotated[LossTerm | None, Short] = None
    triplet: Annotated[TripletTerm | None, Short] = None
    arcface: Annotated[ArcFaceTerm | None, Short] = None
    cosface: Annotated[CosFaceTerm | None, Short] = None
    adaface: Annotated[AdaFaceTerm | None, Short] = None
    softmax: Annotated[SoftmaxTerm | None, Short] = None

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if not any(getattr(self, name) for name in type(self).model_fields):
            raise ValueError(f"name at least one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def needs_teacher(self) -> bool:
        return self.embedding is not None or self.similarity is not None
