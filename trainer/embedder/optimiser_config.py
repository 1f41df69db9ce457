"""Settings of the optimiser and of the learning-rate schedule of a stage."""

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Field, model_validator

from trainer.configuration import Configuration, Fraction


class AdamConfig(Configuration):
    """Adam, or AdamW with decoupled weight decay (Loshchilov and Hutter, ICLR 2019).

    Attributes:
        name: `adamw`, or `adam`, whose weight decay is a part of the gradient.
        betas: Decay rates of the moving averages of the gradient and of its square, per step.
    """

    name: Literal["adamw", "adam"]
    betas: tuple[Fraction, Fraction] = (0.9, 0.999)


class SgdConfig(Configuration):
    """Stochastic gradient descent.

    Attributes:
        name: `sgd`.
        momentum: Factor by which the running sum of gradients decreases per step; 0 uses the current gradient alone.
        nesterov: Use Nesterov momentum, which needs a `momentum` above 0.
    """

    name: Literal["sgd"]
    momentum: Fraction = 0.9
    nesterov: bool = False

    @model_validator(mode="after")
    def _nesterov_has_momentum(self) -> Self:
        if self.nesterov and not self.momentum:
            raise ValueError("nesterov needs a momentum above 0")
        return self


class CosineConfig(Configuration):
    """Half a cosine wave from the learning rate down to 0 (Loshchilov and Hutter, ICLR 2017).

    Attributes:
        name: `cosine`.
        t_max: Epochs until the rate is 0; after them it rises again. Unset: the epochs of the stage after warm-up.
    """

    name: Literal["cosine"]
    t_max: int | None = Field(None, ge=1)


class PlainScheduleConfig(Configuration):
    """A schedule after warm-up: `one-cycle` (Smith and Topin 2019) or `constant`.

    Attributes:
        name: Shape of the learning rate over the steps of the stage.
    """

    name: Literal["one-cycle", "constant"]


class MultistepConfig(Configuration):
    """Multiplies the learning rate by `factor` at each milestone.

    Attributes:
        name: `multistep`.
        milestones: Epochs if they are integers, or fractions of the stage (0.5).
        factor: Factor of the learning rate at each milestone.
    """

    name: Literal["multistep"]
    milestones: tuple[Annotated[int, Field(ge=1)] | Fraction, ...] = (0.5, 0.75)
    factor: float = Field(0.1, gt=0, lt=1)


def _from_name(value: object) -> object:
    """Accepts `optimizer: sgd` as an abbreviation of `optimizer: {name: sgd}`."""
    return {"name": value} if isinstance(value, str) else value


Optimizer = Annotated[AdamConfig | SgdConfig, Field(discriminator="name"), BeforeValidator(_from_name)]
Schedule = Annotated[
    PlainScheduleConfig | CosineConfig | MultistepConfig, Field(discriminator="name"), BeforeValidator(_from_name)
]
