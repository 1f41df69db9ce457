"""Settings of a search for better training settings."""

import copy
from typing import Any, Self

from pydantic import Field, model_validator

from trainer.configuration import Configuration
from trainer.embedder.config import EmbedderConfig

Value = float | int | str | bool


class RangeConfig(Configuration):
    """Numbers from `low` to `high`; integers if both are integers.

    Attributes:
        low: Lowest value, inclusive; below `high`, and above 0 if `log` is true.
        high: Highest value, inclusive.
        log: Draw uniformly in the logarithm.
        step: Distance between the values; unset: any value.
    """

    low: int | float
    high: int | float
    log: bool = False
    step: int | float | None = None

    @model_validator(mode="after")
    def _is_a_range(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low {self.low} is not below high {self.high}")
        if self.log and (self.low <= 0 or self.step is not None):
            raise ValueError("a logarithmic range needs low above 0 and no step")
        return self

    @property
    def example(self) -> Value:
        return self.low

    @property
    def is_integer(self) -> bool:
        return isinstance(self.low, int) and isinstance(self.high, int)


class ChoicesConfig(Configuration):
    """A list of values.

    Attributes:
        choices: The values; each trial uses one of them.
    """

    choices: tuple[Value, ...] = Field(min_length=2)

    @property
    def example(self) -> Value:
        return self.choices[0]


class TuneConfig(Configuration):
    """A study: `trials` runs of `train`, each with other values of the keys in `search`.

    Attributes:
        name: Name of the study in `study.db` and title of the report.
        trials: Number of finished trials after which the study ends, including those that ended early and those of
            earlier calls.
        seed: Seed of the sampler that chooses the values; a resumed study adds the number of its trials.
        startup_trials: Number of random trials before the sampler uses results and the pruner ends trials.
        patience: Number of validations before a trial can be ended.
        search: Maps a key of `train`, with dots between its parts (`stages.0.learning_rate`), to its values.
        train: A configuration of `identity-trainer train`. Its `monitor` on validation people is maximised.
    """

    name: str = "tuning"
    trials: int = Field(20, ge=1)
    seed: int = 0
    startup_trials: int = Field(5, ge=1)
    patience: int = Field(1, ge=0)
    search: dict[str, RangeConfig | ChoicesConfig] = Field(min_length=1)
    train: dict[str, Any]

    @model_validator(mode="after")
    def _search_keys_exist(self) -> Self:
        self.configuration({key: space.example for key, space in self.search.items()})
        return self

    def configuration(self, values: dict[str, Value]) -> EmbedderConfig:
        """Returns the training configuration with these values of its keys.

        Raises:
            ValueError: A key does not exist, or the configuration is invalid.
        """
        changed = copy.deepcopy(self.train)
        for key, value in values.items():
            _set(changed, key, value)
        return EmbedderConfig.model_validate(changed)


def _set(document: Any, key: str, value: Value) -> None:
    *path, last = key.split(".")
    place = document
    try:
        for part in path:
            place = place[int(part)] if isinstance(place, list) else place.setdefault(part, {})
        place[int(last) if isinstance(place, list) else last] = value
    except (TypeError, ValueError, IndexError, AttributeError):
        raise ValueError(f"search: train has no key {key}") from None
