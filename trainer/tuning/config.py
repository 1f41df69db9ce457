"""Settings of a search for better settings, read from a YAML file."""

import copy
from typing import Any, Self

from pydantic import Field, model_validator

from trainer.configuration import Configuration
from trainer.embedder.config import EmbedderConfig

Value = float | int | str | bool


class RangeConfig(Configuration):
    """Numbers from `low` to `high`; whole ones where both are. `log`: as many from 1 to 10 as from 10 to 100."""

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("a logarithmic range begins above 0 and has no step")
        return self

    @property
    def example(self) -> Value:
        return self.low

    @property
    def whole(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


class ChoicesConfig(Configuration):
    choices: tuple[Value, ...] = Field(min_length=2)

    @property
    def example(self) -> Value:
        return self.choices[0]


class TuneConfig(Configuration):
    """A study: `trials` runs of `train`, each with other values of what `search` names.

    Attributes:
        search: from a key of `train`, its parts joined by dots (`stages.0.learning_rate`), to its values.
        train: a configuration as `trainer train` takes it. Its `monitor` on held-out people is what is maximised.
        startup_trials: drawn at random, before the sampler learns from them and the pruner stops any.
        patience: validations of a trial before it may be stopped.
    """

    name: str = "tuning"
    trials: int = Field(20, ge=1)
    seed: int = 0
    startup_trials: int = Field(5, ge=1)
    patience: int = Field(1, ge=0)
    search: dict[str, RangeConfig | ChoicesConfig] = Field(min_length=1)
    train: dict[str, Any]

    @model_validator(mode="after")
    def _searches_what_is_there(self) -> Self:
        self.configuration({key: space.example for key, space in self.search.items()})
        return self

    def configuration(self, values: dict[str, Value]) -> EmbedderConfig:
        """The run's configuration with these values in the places that their keys name.

        Raises:
            ValueError: a key leads nowhere, or the configuration is none.
        """
        changed = copy.deepcopy(self.train)
        for key, value in values.items():
            _put(changed, key, value)
        return EmbedderConfig.model_validate(changed)


def _put(document: Any, key: str, value: Value) -> None:
    *path, last = key.split(".")
    place = document
    try:
        for part in path:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        place[int(last) if isinstance(place, list) else last] = value
    except (TypeError, ValueError, IndexError, AttributeError):
        raise ValueError(f"search: {key} leads nowhere in train") from None
