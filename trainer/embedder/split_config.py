"""Settings of the split of the data."""

from typing import Literal, Self

from pydantic import model_validator

from trainer.configuration import Configuration, Fraction


class SplitConfig(Configuration):
    """Fractions of the identities; the remaining identities train. The part depends on the identity's name alone.

    Attributes:
        by: `identity`, or `picture` for a closed set of people: everybody trains, and `validation` is the fraction of
            each person's pictures that is held out, by the name of the file.
        validation: Identities that select the best checkpoint.
        calibration: Identities that only measure.
        held_out: Identities that only measure, in addition to the fraction.
        wrong_labels: Identities that are excluded, since their folders also contain pictures of other people.
    """

    by: Literal["identity", "picture"] = "identity"
    validation: Fraction = 0.05
    calibration: Fraction = 0.10
    held_out: tuple[str, ...] = ()
    wrong_labels: tuple[str, ...] = ()

    @model_validator(mode="after")
    def _somebody_trains(self) -> Self:
        if self.validation + self.calibration > 1 + 1e-9:
            raise ValueError(
                f"validation + calibration is {self.validation + self.calibration:g}; at most 1 is possible"
            )
        return self
