"""Settings of the losses of a stage: `losses: {triplet: {weight: 0.5, margin: soft}, softmax: 1}`."""

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from trainer.configuration import Configuration


class WeightSchedule(Configuration):
    """A weight that changes from `start` to `end` during the stage.

    Attributes:
        start: Weight at the first step of the stage.
        end: Weight at the end of the stage.
        shape: `linear`, or `cosine` for half a cosine wave, which changes slowly at the start and at the end.
    """

    start: float = Field(ge=0)
    end: float = Field(ge=0)
    shape: Literal["linear", "cosine"] = "linear"


class LossTerm(Configuration):
    """A loss with its weight, which is constant or a schedule.

    Attributes:
        weight: Factor of the loss in the sum of the stage's losses.
    """

    weight: Annotated[float, Field(gt=0)] | WeightSchedule = 1.0

    def weight_at(self, progress: float) -> float:
        """Returns the weight after the fraction `progress` (0 to 1) of the stage."""
        if not isinstance(self.weight, WeightSchedule):
            return self.weight
        schedule = self.weight
        part = progress if schedule.shape == "linear" else (1 - math.cos(math.pi * progress)) / 2
        return schedule.start + (schedule.end - schedule.start) * part


class TripletTerm(LossTerm):
    """Triplets mined in each batch.

    Attributes:
        mining: `batch-hard` (Hermans et al. 2017) or `semi-hard` (Schroff et al., CVPR 2015).
        margin: Margin of the hinge, or `soft` for log(1 + exp(difference)) (Hermans et al. 2017).
    """

    mining: Literal["batch-hard", "semi-hard"] = "batch-hard"
    margin: Annotated[float, Field(gt=0)] | Literal["soft"] = 0.2


class ArcFaceTerm(LossTerm):
    """Softmax with an angular margin (Deng et al., CVPR 2019).

    Attributes:
        margin_degrees: Angle in degrees that is added between an embedding and the centre of its person.
        scale: Factor of all cosines before the softmax.
    """

    margin_degrees: float = Field(28.6, gt=0, lt=90)
    scale: float = Field(64.0, gt=0)


class CosFaceTerm(LossTerm):
    """Softmax with a cosine margin (Wang et al., CVPR 2018).

    Attributes:
        margin: Number that is subtracted from the cosine between an embedding and the centre of its person.
        scale: Factor of all cosines before the softmax.
    """

    margin: float = Field(0.35, gt=0, lt=1)
    scale: float = Field(64.0, gt=0)


class AdaFaceTerm(LossTerm):
    """A margin that depends on the embedding length.

    Attributes:
        margin: Margin m for the quality z from -1 to 1: the logit of the right person is cos(angle - m z) - m (1 + z),
            with the angle in radians.
        concentration: Factor of the standardised length; the result is limited to -1 to 1.
        scale: Factor of all logits before the softmax.
    """

    margin: float = Field(0.4, gt=0, lt=1)
    concentration: float = Field(0.333, gt=0)
    scale: float = Field(64.0, gt=0)


class SoftmaxTerm(LossTerm):
    """Cross-entropy of a linear classifier.

    Attributes:
        label_smoothing: Fraction of the target probability that is distributed evenly over all training people.
        scale: Length to which embeddings are normalised before the classifier. Unset: they are not normalised.
    """

    scale: float | None = Field(None, gt=0)
    label_smoothing: float = Field(0.0, ge=0, lt=1)


class NamedConfig(Configuration):
    """A class of pytorch-metric-learning.

    Attributes:
        name: Name of the class, such as MultiSimilarityLoss or MultiSimilarityMiner.
        arguments: Arguments of the class. The trainer sets `num_classes` and `embedding_size`.
    """

    name: str
    arguments: dict[str, Any] = Field(default_factory=dict)


class MetricLearningTerm(LossTerm, NamedConfig):
    """Any loss of pytorch-metric-learning (Musgrave et al. 2020).

    Attributes:
        miner: A miner of pytorch-metric-learning, which selects the pairs or triplets of the loss.
    """

    miner: NamedConfig | None = None


def _from_name(value: object) -> object:
    """Accepts `metric_learning: CircleLoss` as an abbreviation of `metric_learning: {name: CircleLoss}`."""
    return {"name": value} if isinstance(value, str) else value


def _from_weight(value: object) -> object:
    """Accepts `triplet: 0.5` as an abbreviation of `triplet: {weight: 0.5}`."""
    return {"weight": value} if isinstance(value, int | float) else value


Abbreviated = BeforeValidator(_from_weight)


class LossesConfig(Configuration):
    """The losses of one stage; their weighted sum is minimised.

    Attributes:
        embedding: 1 - cosine to the teacher's embedding of the same picture.
        similarity: Squared error of the pairwise cosines in a batch to the teacher's (Tung and Mori, ICCV 2019).
        triplet: Batch-hard or semi-hard triplets (Hermans et al. 2017; Schroff et al., CVPR 2015).
        arcface: Softmax over the training people with an angular margin (Deng et al., CVPR 2019).
        cosface: Softmax over the training people with a cosine margin (Wang et al., CVPR 2018).
        adaface: Softmax over the training people with a quality-dependent margin (Kim et al., CVPR 2022).
        softmax: Linear classifier of the training people.
        metric_learning: Any loss of pytorch-metric-learning, by its name; the labelled pictures of a batch.
        maps: Squared error of feature maps to those of the network of which `identity-trainer slim` made the initial
            weights; that network then also gives the teacher's embeddings, of the changed pictures.
    """

    embedding: Annotated[LossTerm | None, Abbreviated] = None
    similarity: Annotated[LossTerm | None, Abbreviated] = None
    triplet: Annotated[TripletTerm | None, Abbreviated] = None
    arcface: Annotated[ArcFaceTerm | None, Abbreviated] = None
    cosface: Annotated[CosFaceTerm | None, Abbreviated] = None
    adaface: Annotated[AdaFaceTerm | None, Abbreviated] = None
    softmax: Annotated[SoftmaxTerm | None, Abbreviated] = None
    metric_learning: Annotated[MetricLearningTerm | None, BeforeValidator(_from_name)] = None
    maps: Annotated[LossTerm | None, Abbreviated] = None

    @model_validator(mode="after")
    def _is_not_empty(self) -> Self:
        if not any(getattr(self, name) for name in type(self).model_fields):
            raise ValueError(f"name at least one of {', '.join(type(self).model_fields)}")
        return self

    @property
    def distils(self) -> bool:
        """The losses compare embeddings with those of another network."""
        return self.embedding is not None or self.similarity is not None

    @property
    def needs_teacher(self) -> bool:
        """These embeddings are a teacher's, and not those of the network whose maps are compared."""
        return self.distils and self.maps is None
