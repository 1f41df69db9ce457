"""The base of every configuration: read from YAML, and refused where a key is unknown, missing or wrong."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated, Self, TypeVar

import yaml
from pydantic import Field, ValidationError

from service.strict_model import Strict

Fraction = Annotated[float, Field(ge=0, le=1)]
Choice = TypeVar("Choice", bound=StrEnum)


class ConfigError(ValueError):
    """A configuration that can't be used, in words for the person who wrote it."""


def choice(kind: type[Choice], given: str, option: str) -> Choice:
    """The member of an enumeration that an option of a command names.

    Raises:
        ConfigError: none of that name.
    """
    try:
        return kind(given)
    except ValueError:
        raise ConfigError(f"--{option} {given}: choose one of {', '.join(kind)}") from None


class Configuration(Strict):
    """Settings as a YAML file holds them. No key is accepted and ignored."""

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a YAML file.

        Raises:
            ConfigError: no such file, not YAML, or a key that is unknown, missing or wrong, named with its place.
        """
        try:
            return cls.model_validate(yaml.safe_load(path.read_text()) or {})
        except (OSError, yaml.YAMLError) as error:
            raise ConfigError(f"{path}: {error}") from None
        except ValidationError as error:
            faults = (f"  {'.'.join(str(part) for part in item['loc'])}: {item['msg']}" for item in error.errors())
            raise ConfigError("\n".join([f"{path} is not such a configuration:", *faults])) from None
